"""Rollouts on other machines: servers of the policy's weights that draw its answers, token ids in and out.

``settings``: what a run says of its servers. ``completions``: one request and how its answer is checked. ``weights``:
versions of the weights in a folder that the servers share. ``server``: one server, and which version it holds.
``pool``: several, among which requests are spread. ``sampler``: the sampler that a run draws with.
"""
