package config

// header begins a config file that berth makes.
const header = `# berth's configuration. The running agent follows every change.
#   berth config check     looks for mistakes
#   berth config schema    every key, as a JSON Schema for editors
version: 1
`

// starter follows the header in a file that a person is about to fill in.
const starter = `
# One local port for each database or Kubernetes cluster, as in:
#
# tunnels:
#   - {name: prod-pg, kind: db, cluster: example.com, resource: pg-prod, db_user: alice, db_name: app, port: 15432}
#   - {name: prod-k8s, kind: kube, cluster: example.com, resource: prod}
`
