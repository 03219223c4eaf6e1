# What a supervisor and the Consul agent beside it need, and no more (Consul 1.4 and later).
#
#   sed 's/SERVICE/bert-ner-prod-v1/; s/NODE/gpu-host-7/' acl-policy.hcl |
#     consul acl policy create -name bert-ner-prod-v1 -rules -
#
# Nodes that are many and named alike take one policy: node_prefix "gpu-" and agent_prefix "gpu-" in the place of the two below.

# The entry and its two checks: registered, updated, removed; and read, to see them as the servers show them.
service "SERVICE" {
  policy = "write"
}

# The agent keeps its node in the catalog with it. Where the agent has a token of its own (agent.own-token-file), or is not
# ours (--agent external), "read" is enough here: without it the servers show the entry to nobody.
node "NODE" {
  policy = "write"
}

# Which agent it is, its version, and how many members it sees.
agent "NODE" {
  policy = "read"
}
