//go:build unix

package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
)

// TestListsOfSomeClusters: of several logins one whose proxy is away, and one whose key
// only tsh can use, keep nothing of the others' lists back.
func TestListsOfSomeClusters(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	away := simworld.Start(t, simcluster.Config{Name: "away.test"})
	hardware := simworld.Start(t, simcluster.Config{Name: "hardware.test"})
	homes := []string{filepath.Join(t.TempDir(), "tsh"), filepath.Join(t.TempDir(), "tsh")}
	must(t, away.Login(homes[0], "alice"))
	must(t, hardware.Login(homes[1], "alice"))
	key := filepath.Join(homes[1], "keys", hardware.ProxyHost(), "alice")
	must(t, os.WriteFile(key, []byte("-----BEGIN PIV YUBIKEY PRIVATE KEY-----\ne30=\n-----END PIV YUBIKEY PRIVATE KEY-----\n"), 0o600))
	e.config()
	text, err := os.ReadFile(e.Paths.Config)
	must(t, err)
	all := strings.Replace(string(text), "homes: [", "homes: ['"+strings.Join(homes, "', '")+"', ", 1)
	must(t, os.WriteFile(e.Paths.Config, []byte(all), 0o600))
	away.Faults().Stop()
	e.start()
	e.Await("the sessions", func(s state.Snapshot) bool {
		valid := 0
		for _, p := range s.Profiles {
			if p.State == state.ProfileValid {
				valid++
			}
		}
		return valid == 3
	})
	const words = "only tsh can use the session's key, so berth cannot list hardware.test"
	c := e.Client()
	list, unasked, err := c.Resources(t.Context(), client.ResourceQuery{})
	if err != nil || len(list) != 1 || list[0].Name != "pg" {
		t.Errorf("Resources = %v, %v; want those of the cluster that answers", list, err)
	}
	if len(unasked) != 2 || !strings.Contains(unasked[0], away.ProxyAddr()+" does not answer") || unasked[1] != words {
		t.Errorf("the others are missing because of %q", unasked)
	}
	_, _, err = c.Resources(t.Context(), client.ResourceQuery{Cluster: "hardware.test"})
	wantCode(t, err, ipc.CodeUnsupported, words)
}
