package agent

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"berth/agent/state"
	"berth/internal/simcluster"
)

// TestOtherUsersAreTurnedAway: a second OS user gets nothing from a tunnel, is
// told of, and gets through once the guard is off.
func TestOtherUsersAreTurnedAway(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root, to be another user for a moment")
	}
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("SKIPPED: needs bash, for its /dev/tcp")
	}
	const nobody = 65534
	e := newEnv(t, simcluster.Config{})
	e.login()
	guarded, port := e.pgTunnel("pg")
	open, openPort := e.pgTunnel("open", "guard: off")
	e.config(guarded, open)
	e.start()
	e.awaitState("pg", state.TunnelReady)
	e.awaitState("open", state.TunnelReady)
	// It asks whether the server speaks TLS: one byte answers.
	knock := func(port int) string {
		cmd := exec.CommandContext(t.Context(), "bash", "-c",
			fmt.Sprintf(`exec 3<>/dev/tcp/127.0.0.1/%d; printf '\0\0\0\010\004\322\026\057' >&3; head -c1 <&3`, port))
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, _ := cmd.Output() // a reset ends it with an error
		return string(out)
	}
	if got := knock(port); got != "" {
		t.Errorf("another user was answered %q", got)
	}
	if got := knock(openPort); got == "" {
		t.Error("with the guard off another user was not answered")
	}
	s := e.await("who it was", func(s state.Snapshot) bool { return s.Tunnels[0].ForeignAt != nil && len(s.Notices) == 1 })
	if tun := s.Tunnels[0]; tun.Guard != state.GuardOn || !strings.Contains(tun.ForeignUser, "uid 65534") || tun.LastErrorAt != nil || tun.Problem != nil {
		t.Errorf("the guarded tunnel is %+v", tun)
	}
	if tun := s.Tunnels[1]; tun.Guard != state.GuardOff || tun.ForeignAt != nil {
		t.Errorf("the open tunnel is %+v", tun)
	}
	if n := s.Notices[0]; n.Kind != state.NoticeForeign {
		t.Errorf("told %+v", n)
	}
	events, err := e.client().TunnelHistory(t.Context(), "pg")
	if err != nil {
		t.Fatal(err)
	}
	if last := events[len(events)-1]; last.Kind != state.EventRefused || !strings.Contains(last.Text, "was refused: it belongs to") {
		t.Errorf("history ends with %+v", last)
	}
	e.mustPG(port)
}
