"""The world model: a second model that learns what the environment does (WebEvolver, arXiv 2504.21024).

`transitions` takes it out of stored episodes; `page` says how it is asked and answers; `world` predicts (a learned
model, or the real environment behind the same interface); `judging` rates what was imagined; `env` makes an environment
of it; `lookahead` is a policy that thinks before it acts; `fidelity` measures how far it can be trusted; `training`
trains it; `webevolver` trains policy and world model together.
"""
