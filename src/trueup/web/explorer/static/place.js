// Where somebody is: all of it stands in the address behind #, so that a link brings others to the same place.

const SINGLE = ["run", "view", "of", "step", "prompt", "sort", "against", "layer", "text", "metric", "axis", "first", "last", "normal", "tour"];

/** The place in the address. `runs` are those to compare. */
export function here() {
  const query = new URLSearchParams(location.hash.slice(1));
  const place = { runs: query.getAll("with") };
  for (const name of SINGLE) place[name] = query.get(name) ?? "";
  return place;
}

/** An address for a place; what is empty is left out. */
export function address(place) {
  const query = new URLSearchParams();
  for (const name of SINGLE) if (place[name] !== undefined && place[name] !== "" && place[name] !== null) query.set(name, place[name]);
  for (const run of place.runs ?? []) query.append("with", run);
  return `#${query}`;
}

/** Goes to a place; `quiet` changes the address without a new entry of the history and without drawing anew. */
export function go(place, { quiet = false } = {}) {
  if (quiet) history.replaceState(null, "", address(place));
  else location.hash = address(place);
}
