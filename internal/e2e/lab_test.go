//go:build e2e && lab && linux

package e2e

import (
	"encoding/json"
	"io"
	"os"
	"testing"
)

// TestLab keeps the laboratory up for another program, with a person who is
// logged in: it prints where everything is, and ends with its standard input.
// The benchmarks measure there.
func TestLab(t *testing.T) {
	p := newPerson(t, roleDB, roleKube)
	p.login()
	where := map[string]string{
		"home": p.tshHome, "proxy": p.at.addr(), "ca_file": lab.webCA.file, "cluster": p.at.cfg.cluster,
		"database": "pg", "db_user": "app", "db_name": "appdb", "kube": kubeProd,
		"tsh": p.shell().tsh, "postgres_bin": lab.postgres.bin, "version": p.at.version,
	}
	if err := json.NewEncoder(os.Stdout).Encode(where); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		t.Fatal(err)
	}
}
