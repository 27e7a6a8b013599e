//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"berth/internal/e2elab"
	"berth/internal/simcluster"
	"berth/internal/wake"
)

// lab is a real Teleport behind a relay, with real databases and a stand-in for
// Kubernetes.
type lab struct {
	*e2elab.Lab

	Home     string `json:"home"` // TELEPORT_HOME, logged in
	Proxy    string `json:"proxy"`
	CAFile   string `json:"ca_file"`
	Cluster  string `json:"cluster"`
	Version  string `json:"version"`
	TSH      string `json:"tsh"`
	User     string `json:"user"`
	Password string `json:"password"`
}

// does has something done whose outcome is only that.
func (l *lab) does(what string) error {
	_, err := l.Do(what)
	return err
}

// realPlan is plan at the real Teleport.
var realPlan = []struct {
	protocol, resource string
	users              []string
	database           string
	count              int
}{
	{"postgres", "pg", []string{"app", "reporter", "tester"}, "appdb", 14},
	{"mysql", "my", []string{"app"}, "appdb", 8},
	{"redis", "re", []string{"default"}, "0", 6},
	{"", "prod", []string{""}, "", 1},
	{"", "dev", []string{""}, "", 1},
}

func (w *world) startReal(ctx context.Context, o options) error {
	l := &lab{}
	var err error
	if l.Lab, err = e2elab.Start(ctx, o.lab, "TestWeatherLab", o.berth, l); err != nil {
		return err
	}
	w.lab = l
	w.home, w.caFile, w.proxy, w.cluster, w.password = l.Home, l.CAFile, l.Proxy, l.Cluster, l.Password
	free := freePorts()
	w.port = free()
	for _, p := range realPlan {
		for i := range p.count {
			t := tunnel{
				name: fmt.Sprintf("%s-%d", p.resource, i+1), protocol: p.protocol, resource: p.resource,
				user: p.users[i%len(p.users)], database: p.database, port: w.port, real: true,
			}
			if p.protocol != "" {
				t.port = free()
			}
			w.tunnels = append(w.tunnels, t)
		}
	}
	return nil
}

// grant makes a request that is approved, and returns its id.
func (w *world) grant() (string, error) {
	if w.lab != nil {
		return w.lab.Do("grant")
	}
	return w.sim.PutAccessRequest(simcluster.AccessRequest{User: user, Roles: []string{"dba"}, State: approved}), nil
}

// realFaults returns every fault of the real cluster.
func realFaults() []fault {
	return slices.Concat(acting(onProxy, realProxyFaults()), acting(onCluster, realClusterFaults()), loginFaults(),
		acting(onDisk, configFaults()), systemFaults(), acting(onAgent, agentFaults()), acting(onDesktop, trayFaults()))
}

// told is a part of a fault that the laboratory makes.
func told(what string) func(context.Context, *world) error {
	return func(_ context.Context, w *world) error { return w.lab.does(what) }
}

func realProxyFaults() []fault {
	return []fault{
		lasting(fault{
			name: "proxy-away", about: "kill -9 of Teleport, and it is started again", allows: fresh | open,
			start: told("kill"), stop: told("start"),
		}),
		lasting(fault{
			name: "proxy-restart", about: "Teleport is asked to end, and started again", allows: fresh | open,
			start: told("stop"), stop: told("start"),
		}),
		lasting(fault{
			name: "proxy-refuses", about: "new connections to the proxy are refused; open ones stay", allows: fresh,
			start: told("refuse"), stop: told("accept"),
		}),
		lasting(fault{
			name: "proxy-slow", about: "0.3 s more a round trip",
			start: told("slow"), stop: told("quick"),
		}),
		lasting(fault{
			name: "proxy-black-hole", about: "no byte passes, on open connections neither", allows: fresh,
			start: told("hold"), stop: told("flow"),
		}),
		lasting(fault{
			name: "proxy-frozen", about: "Teleport is stopped by SIGSTOP", allows: fresh,
			start: told("freeze"), stop: told("thaw"),
		}),
		{
			name: "proxy-reset", about: "all connections to the proxy are reset at once", allows: fresh | open, settle: 2 * time.Second,
			start: told("reset"),
		},
	}
}

func realClusterFaults() []fault {
	rotation := func(kind string) fault {
		return fault{
			name: kind + "-ca", about: "the " + kind + " CA is rotated, phase by phase; a login follows", allows: fresh | open, settle: settleTime,
			short: time.Second, long: 2 * time.Second,
			start: told("rotate " + kind), stop: told("login"),
		}
	}
	return []fault{
		lasting(fault{
			name: "user-locked", about: "the user is locked, and unlocked", allows: fresh | open,
			start: told("lock"), stop: told("unlock"),
		}),
		lasting(fault{
			name: "roles-away", about: "a login without roles for any resource, and one with them", allows: fresh | open,
			start: told("login away"), stop: told("login back"),
		}),
		rotation("user"), rotation("host"),
		{
			name: "login-tsh", about: "tsh logout, and a login by tsh",
			start: told("login"),
		},
		{
			// The session lasts a minute.
			name: "session-ends", about: "the session ends; a login follows", allows: fresh, settle: settleTime,
			short: 2 * time.Second, long: 6 * time.Second,
			start: func(ctx context.Context, w *world) error {
				err := w.lab.does("login short")
				wake.Sleep(ctx, 65*time.Second)
				return err
			},
			stop: told("login"),
		},
	}
}
