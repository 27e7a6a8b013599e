package route

import (
	"bufio"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"crypto/x509"

	"github.com/gravitational/teleport/api/utils/pingconn"

	"berth/proxies/internal/nettest"
)

// Benchmarks run the proxy and the clients in processes of their own, so that
// what they measure is the tunnel. childEnv says which one to be.
const (
	childEnv  = "BERTH_TEST_CHILD"
	clientEnv = "BERTH_TEST_CLIENT" // "address count command"
)

// The first byte of a benchmark connection says what it does.
const (
	cmdDownload = 'd'
	cmdUpload   = 'u'
	cmdEcho     = 'e'
	cmdBurst    = 'b' // burstSize bytes, then silence
)

const burstSize = 256 << 10

func runChild(mode string) {
	switch mode {
	case "proxy":
		childProxy()
	case "clients":
		childClients()
	}
}

// childProxy serves until stdin ends; it prints its address and CA.
func childProxy() {
	ca := newAuthority(&testing.B{}, "web")
	cert := ca.issue(&testing.B{}, "web", time.Time{}, proxyHost)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{*cert},
		NextProtos:   []string{"bench-ping", "bench", "plain"},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	_ = pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
	fmt.Println("end")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveBench(c.(*tls.Conn))
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func serveBench(tc *tls.Conn) {
	defer tc.Close()
	if tc.Handshake() != nil {
		return
	}
	c := net.Conn(tc)
	if strings.HasSuffix(tc.ConnectionState().NegotiatedProtocol, "-ping") {
		c = pingconn.NewTLS(tc)
	}
	var cmd [1]byte
	if _, err := io.ReadFull(c, cmd[:]); err != nil {
		return
	}
	switch cmd[0] {
	case cmdDownload:
		for buf := make([]byte, 8<<10); ; { // as Teleport passes a result on
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	case cmdBurst:
		_, _ = c.Write(make([]byte, burstSize))
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, c, make([]byte, 512))
	case cmdUpload:
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, c, make([]byte, 64<<10))
	case cmdEcho:
		for buf := make([]byte, 512); ; { // small: there are ten thousand
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// childClients opens connections, tries each, says so, and keeps them until
// stdin ends.
func childClients() {
	args := strings.Fields(os.Getenv(clientEnv))
	addr, cmd := args[0], args[2][0]
	n, err := strconv.Atoi(args[1])
	if err != nil {
		panic(err)
	}
	for range n {
		c, err := net.Dial("tcp", addr)
		switch {
		case err != nil:
		case cmd == cmdEcho:
			err = tryRoundTripAfter(c, cmdEcho, "hello")
		default:
			_, _ = c.Write([]byte{cmd})
			_, err = io.CopyN(io.Discard, c, burstSize)
		}
		if err != nil {
			fmt.Println("failed:", err)
			return
		}
		defer c.Close()
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func tryRoundTripAfter(c net.Conn, cmd byte, msg string) error {
	if _, err := c.Write([]byte{cmd}); err != nil {
		return err
	}
	return nettest.TryRoundTrip(c, msg)
}

// child is another process of this binary.
type child struct {
	*bufio.Reader // its stdout
}

func startChild(b testing.TB, mode string, env ...string) child {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+mode)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	return child{bufio.NewReader(stdout)}
}

func (c child) line(b testing.TB) string {
	b.Helper()
	s, err := c.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(s)
}

// startProxy starts a proxy in another process and returns how to get there.
func startProxy(b testing.TB, alpn string) Route {
	b.Helper()
	c := startChild(b, "proxy")
	r := Route{ProxyAddr: c.line(b), ServerName: proxyHost, ALPN: alpn, RootCAs: x509.NewCertPool()}
	var ca strings.Builder
	for s := c.line(b); s != "end"; s = c.line(b) {
		fmt.Fprintln(&ca, s)
	}
	if !r.RootCAs.AppendCertsFromPEM([]byte(ca.String())) {
		b.Fatal("the child sent no CA")
	}
	return r
}
