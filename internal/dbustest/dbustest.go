// Package dbustest starts private message buses for tests: nothing on them is
// the machine's own, and nothing is ever activated.
package dbustest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"berth/internal/testneeds"
)

// There is no <servicedir>: a bus of the usual kind would start the machine's
// own services in the middle of a test.
const config = `<busconfig><type>session</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`

// Bus is a private bus.
type Bus struct {
	Address string // stays the same over Stop and Start

	folder string
	cmd    *exec.Cmd
}

// Start starts a bus that ends with the test. Where there is no dbus-daemon the
// test is skipped, or fails where the environment says CI.
func Start(t testing.TB) *Bus {
	t.Helper()
	testneeds.Program(t, "dbus-daemon")
	folder, err := os.MkdirTemp("", "bus") // t.TempDir's names may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(folder, "bus")
	b := &Bus{Address: "unix:path=" + socket, folder: folder}
	t.Cleanup(func() { b.Stop(t); _ = os.RemoveAll(folder) })
	if err := os.WriteFile(filepath.Join(folder, "conf"), fmt.Appendf(nil, config, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Start(t)
	return b
}

// Start starts the bus again after Stop.
func (b *Bus) Start(t testing.TB) {
	t.Helper()
	_ = os.Remove(strings.TrimPrefix(b.Address, "unix:path="))
	b.cmd = exec.CommandContext(context.Background(), "dbus-daemon",
		"--nofork", "--nopidfile", "--print-address=1",
		"--config-file="+filepath.Join(b.folder, "conf"))
	out, err := b.cmd.StdoutPipe()
	if err == nil {
		err = b.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("dbus-daemon printed no address: %v", err)
	}
}

// Stop kills the bus.
func (b *Bus) Stop(testing.TB) {
	if b.cmd != nil && b.cmd.Process != nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
		b.cmd = nil
	}
}

// Connect returns a connection of its own, with the given names.
func (b *Bus) Connect(t testing.TB, names ...string) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(b.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for _, name := range names {
		if reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
			t.Fatalf("own %s: %v, %v", name, reply, err)
		}
	}
	return conn
}
