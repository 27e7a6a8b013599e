package db_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"berth/internal/testneeds"
)

// tediousScript connects in each mode of encryption and asks for one row.
const tediousScript = `
const {Connection, Request} = require('tedious'), [port, ca] = process.argv.slice(1)
const trusted = {trustServerCertificate: false, cryptoCredentialsDetails: {ca: require('fs').readFileSync(ca)}}
const modes = {
	off: {encrypt: false}, unchecked: {encrypt: true, trustServerCertificate: true}, checked: {encrypt: true, ...trusted},
	strict: {encrypt: 'strict', ...trusted}, unknown: {encrypt: true, trustServerCertificate: false},
}
const ask = options => new Promise(done => {
	const c = new Connection({server: 'localhost', options: {port: +port, database: 'app', connectTimeout: 20000, ...options},
		authentication: {type: 'default', options: {userName: 'bob', password: 'unused'}}})
	c.on('connect', failed => failed ? done(failed.message) : c.execSqlBatch(new Request('select 1', (failed, rows) => {
		c.close()
		done(failed ? failed.message : rows + ' row')
	})))
	c.connect()
})
;(async () => { for (const mode in modes) console.log(mode + ': ' + await ask(modes[mode])) })()
`

// TestTedious: Node's driver for SQL Server, in all its modes.
func TestTedious(t *testing.T) {
	node, _ := nodeModule(t, "tedious")
	var seen atomic.Int64
	f := front(t, "sqlserver", serving(t, tdsServer(&seen)))
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, node, "-e", tediousScript, f.port, f.ca).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i, want := range []string{"off: 1 row", "unchecked: 1 row", "checked: 1 row", "strict: 1 row", "unknown: "} {
		switch {
		case i >= len(lines) || !strings.HasPrefix(lines[i], want):
			t.Errorf("want %q:\n%s", want, out)
		case i == 4 && !strings.Contains(lines[i], "certificate"):
			t.Errorf("a client that does not know the CA says %q", lines[i])
		}
	}
}

// TestFreeTDS: the library of tsql, pymssql and others, without encryption, where
// it may encrypt and where it must.
func TestFreeTDS(t *testing.T) {
	var seen atomic.Int64
	f := front(t, "sqlserver", serving(t, tdsServer(&seen)))
	tsql := testneeds.Program(t, "tsql")
	for _, mode := range []string{"off", "request", "require"} {
		conf := filepath.Join(t.TempDir(), "freetds.conf")
		text := "[x]\nhost = 127.0.0.1\nport = " + f.port + "\ntds version = 7.4\nencryption = " + mode + "\n"
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		cmd := exec.CommandContext(ctx, tsql, "-S", "x", "-U", "bob", "-P", "unused", "-o", "qh")
		cmd.Env = []string{"FREETDSCONF=" + conf, "HOME=" + t.TempDir(), "LC_ALL=C"}
		cmd.Stdin = strings.NewReader("select 1\ngo\nexit\n")
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil || strings.TrimSpace(string(out)) != "40" { // the batch's length
			t.Errorf("%s: %v\n%s", mode, err, out)
		}
	}
}
