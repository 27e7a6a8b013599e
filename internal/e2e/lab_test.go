//go:build e2e && lab && linux

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"berth/internal/e2elab"
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
	stayUp(t, where)
}

// TestPatternsLab keeps up a cluster with 500 databases, someone who may ask for
// a role, and someone who decides.
func TestPatternsLab(t *testing.T) {
	tp := startAnother(t, func(cfg *teleportConfig) {
		for i := len(cfg.databases); i < 500; i++ {
			cfg.databases = append(cfg.databases, dbService{name: fmt.Sprintf("db-%03d", i), uri: "127.0.0.1:1"})
		}
	})
	if err := tp.apply(t.Context(), requestRoles); err != nil {
		t.Fatal(err)
	}
	p, decider := newPersonAt(t, tp, roleAsker), newPersonAt(t, tp, "req-setter")
	p.login()
	decider.login()
	stayUp(t, map[string]string{
		"home": p.tshHome, "decider": decider.tshHome, "ca_file": lab.webCA.file, "cluster": tp.cfg.cluster,
		"role": roleReporter, "tsh": p.shell().tsh, "version": tp.version, "proxy": tp.addr(),
	})
}

// stayUp says where everything is, and waits for the end of the standard input.
func stayUp(t *testing.T, where map[string]string) {
	t.Helper()
	obey(t, where, nil)
}

// obey says where everything is, and does what the lines of the standard input say
// until that ends.
func obey(t *testing.T, where map[string]string, deeds map[string]func(context.Context) (string, error)) {
	t.Helper()
	say := json.NewEncoder(os.Stdout)
	if err := say.Encode(where); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var a e2elab.Answer
		err := fmt.Errorf("nobody knows how to %s", lines.Text())
		if do := deeds[lines.Text()]; do != nil {
			a.Said, err = do(t.Context())
		}
		if err != nil {
			a.Error = err.Error()
		}
		if err := say.Encode(a); err != nil {
			t.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}
