package db_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/testneeds"
	"berth/proxies"
	"berth/proxies/db"
)

// nodeModule returns node and the folder of a module; without them the test skips.
func nodeModule(t *testing.T, name string) (node, dir string) {
	t.Helper()
	dir = filepath.Join(os.Getenv("NODE_PATH"), name)
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "package.json"))
	}
	testneeds.Here(t, "Node's "+name+", npm install'ed into a folder that NODE_PATH names", err)
	return node, dir
}

// TestMongosh: MongoDB's shell as "berth exec" starts it, with TLS and without, and
// while no user is logged in.
func TestMongosh(t *testing.T) {
	node, dir := nodeModule(t, "mongosh")
	p, _ := db.Lookup("mongodb")
	ask := func(f *fronted, ca string) string {
		t.Helper()
		argv, err := p.ClientCommand(endpointOf(t, f, ca))
		if err != nil {
			t.Fatal(err)
		}
		argv = append([]string{filepath.Join(dir, "bin", "mongosh.js")}, argv[1:]...)
		argv[1] += "&serverSelectionTimeoutMS=4000"
		ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, node, append(argv, "--quiet", "--norc", "--eval", "db.runCommand({ping: 1}).heard > 0")...)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		out, _ := cmd.CombinedOutput() // what it says counts
		return strings.TrimSpace(string(out))
	}
	f := front(t, "mongodb", serving(t, mongoServer))
	for _, ca := range []string{"", f.ca} {
		if out := ask(f, ca); !strings.HasSuffix(out, "true") {
			t.Errorf("with the CA %q: %s", ca, out)
		}
	}
	f = front(t, "mongodb", held, func(cfg *proxies.Config, _ *db.FrontConfig) { cfg.Hold = 500 * time.Millisecond })
	if out := ask(f, ""); !strings.Contains(out, "login needed") {
		t.Errorf("a held client got %s", out)
	}
}

// endpointOf is the tunnel as its clients see it.
func endpointOf(t *testing.T, f *fronted, ca string) db.Endpoint {
	t.Helper()
	port, err := net.LookupPort("tcp", f.port)
	if err != nil {
		t.Fatal(err)
	}
	return db.Endpoint{Host: f.host, Port: port, DBUser: "bob", DBName: "app", TunnelName: "t", CA: ca}
}

// TestCassandraDriver: Node's driver for Cassandra hears why it is not served, with
// TLS and without.
func TestCassandraDriver(t *testing.T) {
	node, _ := nodeModule(t, "cassandra-driver")
	f := front(t, "cassandra", held, func(cfg *proxies.Config, _ *db.FrontConfig) { cfg.Hold = 200 * time.Millisecond })
	const script = `
const {Client, auth} = require('cassandra-driver'), [port, ca] = process.argv.slice(1)
;(async () => {
	for (const sslOptions of [undefined, {ca: [require('fs').readFileSync(ca)]}]) {
		const c = new Client({contactPoints: ['127.0.0.1:' + port], localDataCenter: 'x', sslOptions, socketOptions: {connectTimeout: 20000},
			authProvider: new auth.PlainTextAuthProvider('bob', 'unused')})
		try { await c.connect(); console.log('served') }
		catch (e) { console.log(Object.values(e.innerErrors || {x: e}).map(x => x.message).join(' ')) }
		await c.shutdown()
	}
})()`
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, node, "-e", script, f.port, f.ca).CombinedOutput()
	if err != nil || strings.Count(string(out), "login needed") < 2 {
		t.Errorf("%v\n%s", err, out)
	}
}
