// A ranking with ties as data: tiers of ids, best first, and those not ranked. Every move gives a new ranking.

const copy = ({ tiers, out }) => ({ tiers: tiers.map((tier) => [...tier]), out: [...out] });
const settle = (ranking) => ({ ...ranking, tiers: ranking.tiers.filter((tier) => tier.length) });
const without = (list, id) => list.filter((other) => other !== id);

/** Nothing ranked yet. */
export function unranked(ids) {
  return { tiers: [], out: [...ids] };
}

/** Tier of an id, from 0; -1 when it is not ranked. */
export function tierOf(ranking, id) {
  return ranking.tiers.findIndex((tier) => tier.includes(id));
}

/** Ids in the order in which the list shows them. */
export function order(ranking) {
  return [...ranking.tiers.flat(), ...ranking.out];
}

/** Puts an unranked id behind all that is ranked. */
export function append(ranking, id) {
  if (tierOf(ranking, id) >= 0) return ranking;
  return { tiers: [...ranking.tiers, [id]], out: without(ranking.out, id) };
}

/** One place up: out of the tie, or past the tier above, or into the ranking at its end. */
export function up(ranking, id) {
  const changed = copy(ranking);
  const at = tierOf(changed, id);
  if (at < 0) return append(ranking, id);
  if (changed.tiers[at].length > 1) {
    changed.tiers[at] = without(changed.tiers[at], id);
    changed.tiers.splice(at, 0, [id]);
  } else if (at > 0) {
    changed.tiers.splice(at, 1);
    changed.tiers.splice(at - 1, 0, [id]);
  }
  return changed;
}

/** One place down: out of the tie, or past the tier below, or out of the ranking. */
export function down(ranking, id) {
  const changed = copy(ranking);
  const at = tierOf(changed, id);
  if (at < 0) return ranking;
  if (changed.tiers[at].length > 1) {
    changed.tiers[at] = without(changed.tiers[at], id);
    changed.tiers.splice(at + 1, 0, [id]);
  } else if (at < changed.tiers.length - 1) {
    changed.tiers.splice(at, 1);
    changed.tiers.splice(at + 1, 0, [id]);
  } else return leave(ranking, id);
  return changed;
}

/** Ties an id with the tier above; an id that is tied already is put on its own below the others. */
export function tie(ranking, id) {
  const changed = copy(ranking);
  const at = tierOf(changed, id);
  if (at < 0 && changed.tiers.length) {
    changed.out = without(changed.out, id);
    changed.tiers.at(-1).push(id);
  } else if (at >= 0 && changed.tiers[at].length > 1) {
    changed.tiers[at] = without(changed.tiers[at], id);
    changed.tiers.splice(at + 1, 0, [id]);
  } else if (at > 0) {
    changed.tiers[at - 1].push(id);
    changed.tiers[at] = [];
  }
  return settle(changed);
}

/** Takes an id out of the ranking. */
export function leave(ranking, id) {
  if (tierOf(ranking, id) < 0) return ranking;
  return settle({ tiers: ranking.tiers.map((tier) => without(tier, id)), out: [...ranking.out, id] });
}

/** A ranking from stored tiers, with whatever they leave out unranked. */
export function fromTiers(ids, tiers) {
  const known = (tiers ?? []).map((tier) => tier.filter((id) => ids.includes(id))).filter((tier) => tier.length);
  return { tiers: known, out: ids.filter((id) => !known.flat().includes(id)) };
}
