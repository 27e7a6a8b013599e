package agent

import (
	"errors"
	"os"
	"strings"
	"testing"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// TestWhatTheWindowAsks: a tunnel's last hour, and settings that take effect.
func TestWhatTheWindowAsks(t *testing.T) {
	testneeds.Time(t, "a point of the plot is a quarter of a minute")
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	item, port := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.Login()
	e.AwaitState("pg", state.TunnelReady)
	c, ctx := e.Client(), t.Context()

	if points, err := c.TunnelPlot(ctx, "pg"); err != nil || len(points) > 0 {
		t.Errorf("a tunnel without clients: %v, %v", points, err)
	}
	e.serial(e.mustPG(port))
	testwait.Eventually(t, "the client to be in the plot", func() bool {
		points, err := c.TunnelPlot(ctx, "pg")
		var dialled, carried bool // its bytes may be of the next step
		for _, p := range points {
			dialled, carried = dialled || p.Dial > 0, carried || p.BytesIn > 0
		}
		return err == nil && dialled && carried
	})
	var failed *ipc.Error
	if _, err := c.TunnelPlot(ctx, "none"); !errors.As(err, &failed) || failed.Code != ipc.CodeNotFound {
		t.Errorf("the plot of a tunnel that is not there: %v", err)
	}

	if err := c.ChangeSetting(ctx, client.SettingChange{Key: "renew.mode", Proxy: e.Snapshot().Profiles[0].Proxy, Value: "off"}); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "the setting to take effect", func() bool { return e.Snapshot().Profiles[0].Renewal.Mode == state.RenewOff })
	raw, err := os.ReadFile(e.Paths.Config)
	if err != nil || !strings.Contains(string(raw), "renew: {mode: off}") || !strings.Contains(string(raw), item) {
		t.Errorf("%v, the file is\n%s", err, raw)
	}
	err = c.ChangeSetting(ctx, client.SettingChange{Key: "tsh.path", Value: "/tmp/x"})
	if now, _ := os.ReadFile(e.Paths.Config); !errors.As(err, &failed) || failed.Code != ipc.CodeInvalid || string(now) != string(raw) {
		t.Errorf("a setting that is none: %v, the file is\n%s", err, now)
	}
}
