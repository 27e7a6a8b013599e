package agent

import (
	"errors"
	"strings"
	"testing"

	"berth/agent/ipc"
	"berth/agent/state"
	"berth/internal/simcluster"
)

// TestAddedTunnelsHaveAUser: a new tunnel takes the only database user there is,
// and is refused one that its session may not be, whatever the protocol.
func TestAddedTunnelsHaveAUser(t *testing.T) {
	t.Parallel()
	protocols := []string{"postgres", "mysql", "redis", "mongodb", "cassandra"}
	needs := map[string]bool{"redis": true, "mongodb": true, "cassandra": true}
	for name, tt := range map[string]struct {
		allowed []string // nil: any
		user    string   // given
		want    func(protocol string) (user, refusal string)
	}{
		"one": {[]string{"app"}, "", func(string) (string, string) { return "app", "" }},
		"several": {[]string{"app", "reader"}, "", func(p string) (string, string) {
			if needs[p] {
				return "", "you may use: app, reader"
			}
			return "", ""
		}},
		"any": {nil, "", func(p string) (string, string) {
			if needs[p] && p != "redis" { // which has a default one
				return "", "add --db-user"
			}
			return "", ""
		}},
		"allowed":      {[]string{"app", "reader"}, "reader", func(string) (string, string) { return "reader", "" }},
		"not_allowed":  {[]string{"app", "reader"}, "root", func(string) (string, string) { return "", "you may use: app, reader" }},
		"of_their_own": {[]string{"app"}, "alice", func(string) (string, string) { return "alice", "" }},
		"redis_s_default": {[]string{"default", "app"}, "", func(p string) (string, string) {
			return "", map[bool]string{true: "you may use"}[needs[p] && p != "redis"]
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := simcluster.Config{Roles: []simcluster.Role{{Name: "access", DBUsers: tt.allowed}}}
			for _, p := range protocols {
				cfg.Databases = append(cfg.Databases, simcluster.Database{Name: p, Protocol: p})
			}
			e := newEnv(t, cfg)
			e.Login()
			e.config()
			e.start()
			e.Await("a session", func(s state.Snapshot) bool {
				return len(s.Profiles) == 1 && s.Profiles[0].State == state.ProfileValid
			})
			for _, p := range protocols {
				user, refusal := tt.want(p)
				added, err := e.Client().AddTunnel(t.Context(), state.TunnelSpec{
					Name: p, Kind: state.KindDB, Cluster: e.Sim.Name(), Resource: p, DBUser: tt.user,
				})
				refused, _ := errors.AsType[*ipc.Error](err)
				switch {
				case refusal == "" && (err != nil || added.DBUser != user):
					t.Errorf("%s: added with %q, %v; want %q", p, added.DBUser, err, user)
				case refusal != "" && (refused == nil || refused.Code != ipc.CodeInvalid || !strings.Contains(refused.Hint, refusal)):
					t.Errorf("%s: %q, %v; want a refusal that says %q", p, added.DBUser, err, refusal)
				}
			}
		})
	}
}
