package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testneeds"
)

// nobody is a second user, whom every Linux has.
const nobody = 65534

// dialAs connects as another user does. The socket is that of the thread's user
// at the moment it is made; the thread ends with the goroutine.
func dialAs(ctx context.Context, uid int, addr string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			err = errno
			return
		}
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}()
	<-done
	return conn, err
}

// TestNoTunnelServesAnotherUser knocks at every kind of tunnel as the agent's
// user, who is answered, and as another one, who gets nothing: not from a
// database, through whichever engine, and not from Kubernetes, on a port that
// tunnels share or one of its own.
func TestNoTunnelServesAnotherUser(t *testing.T) {
	t.Parallel()
	testneeds.Root(t, "it is another user for a moment")
	e := newKubeEnv(t, simcluster.Config{})
	e.Login()
	pg, pgPort := e.pgTunnel("pg")
	viaTSH, tshPort := e.pgTunnel("pg-tsh", "engine: tsh")
	shared, own, ownTSH := simworld.FreePort(t), simworld.FreePort(t), simworld.FreePort(t)
	e.kubeConfig(shared, pg, viaTSH, e.kubeTunnel("shared", "prod"),
		e.kubeTunnel("own", "dev", fmt.Sprintf("port: %d", own)),
		e.kubeTunnel("own-tsh", "prod", "engine: tsh", fmt.Sprintf("port: %d", ownTSH)))
	e.useFakeTSH()
	e.start()
	for _, name := range []string{"pg", "pg-tsh", "shared", "own", "own-tsh"} {
		e.AwaitState(name, state.TunnelReady)
	}
	for _, tt := range []struct {
		name string
		port int
		ask  func(net.Conn) error
	}{
		{"db_native", pgPort, askPostgres}, {"db_tsh", tshPort, askPostgres},
		{"kube_shared", shared, askKube}, {"kube_own", own, askKube}, {"kube_own_tsh", ownTSH, askKube},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, host := range []string{"127.0.0.1", "::1"} {
				conn, err := dialAs(t.Context(), nobody, net.JoinHostPort(host, fmt.Sprint(tt.port)))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if err := tt.ask(conn); err == nil {
					t.Errorf("another user was answered at %s", host)
				}
			}
		})
	}
	e.mustPG(pgPort)
	e.mustPG(tshPort)
	for _, name := range []string{"shared", "own", "own-tsh"} {
		get, _ := e.kube(name)
		if code, body := get(podsPath); code != 200 {
			t.Errorf("%s answers its own user %d %s", name, code, body)
		}
	}
	s := e.Await("whom the databases turned away", func(s state.Snapshot) bool {
		return s.Tunnels[0].ForeignAt != nil && s.Tunnels[1].ForeignAt != nil
	})
	for _, tun := range s.Tunnels {
		want := state.GuardOn
		if tun.Kind == state.KindKube {
			want = state.GuardNone // the certificate is the guard
		}
		if tun.Guard != want || tun.LastErrorAt != nil || tun.Problem != nil {
			t.Errorf("the tunnel is %+v", tun)
		}
	}
}

// askPostgres asks whether the server speaks TLS: a byte is the answer.
func askPostgres(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f")); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 1))
	return err
}

// askKube asks as who has no certificate to show.
func askKube(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if _, err := client.Write([]byte("GET " + podsPath + " HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		return err
	}
	buf := make([]byte, 12)
	n, err := client.Read(buf)
	if err != nil {
		return err
	}
	if strings.HasPrefix(string(buf[:n]), "HTTP/1.1 4") {
		return errors.New(string(buf[:n]))
	}
	return nil
}

// TestOtherUsersAreTurnedAway: a second OS user gets nothing from a tunnel, is
// told of, and gets through once the guard is off.
func TestOtherUsersAreTurnedAway(t *testing.T) {
	t.Parallel()
	testneeds.Root(t, "it is another user for a moment")
	testneeds.Program(t, "bash") // for its /dev/tcp
	e := newEnv(t, simcluster.Config{})
	e.Login()
	guarded, port := e.pgTunnel("pg")
	open, openPort := e.pgTunnel("open", "guard: off")
	e.config(guarded, open)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.AwaitState("open", state.TunnelReady)
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
	s := e.Await("who it was", func(s state.Snapshot) bool { return s.Tunnels[0].ForeignAt != nil && len(s.Notices) == 1 })
	if tun := s.Tunnels[0]; tun.Guard != state.GuardOn || !strings.Contains(tun.ForeignUser, "uid 65534") || tun.LastErrorAt != nil || tun.Problem != nil {
		t.Errorf("the guarded tunnel is %+v", tun)
	}
	if tun := s.Tunnels[1]; tun.Guard != state.GuardOff || tun.ForeignAt != nil {
		t.Errorf("the open tunnel is %+v", tun)
	}
	if n := s.Notices[0]; n.Kind != state.NoticeForeign {
		t.Errorf("got %+v", n)
	}
	events, err := e.Client().TunnelHistory(t.Context(), "pg")
	if err != nil {
		t.Fatal(err)
	}
	if last := events[len(events)-1]; last.Kind != state.EventRefused || !strings.Contains(last.Text, "was refused: it belongs to") {
		t.Errorf("history ends with %+v", last)
	}
	e.mustPG(port)
}
