package ipc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"berth/internal/testwait"
)

// dialerEnv makes the test binary a client that runs as another user.
const dialerEnv = "BERTH_IPC_TEST_DIAL"

func TestMain(m *testing.M) {
	if address := os.Getenv(dialerEnv); address != "" {
		dialAsOther(address)
		return
	}
	testwait.NoLeaks(m)
}

// dialAsOther prints what a foreign user meets: first without berth's own
// check of the server, then with it.
func dialAsOther(address string) {
	conn, err := net.Dial("unix", address)
	if err != nil {
		fmt.Println("connect:", err)
		return
	}
	_, _ = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := bufio.NewReader(conn).Read(make([]byte, 1))
	var timeout net.Error
	fmt.Printf("read %d bytes, ended: %v\n", n, err != nil && (!errors.As(err, &timeout) || !timeout.Timeout()))
	_, err = Dial(context.Background(), address)
	if e, ok := errors.AsType[*Error](err); ok {
		fmt.Println("dial:", e.Code)
	}
}
