package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"berth/internal/simcluster/simdb"
)

// peer is a program that does a tunnel's work on a TLS stream: TLS to the
// server, nothing to the client.
type peer struct {
	name    string
	program string
	config  string // with the local port, the server's port and the CA's file
	args    []string
}

var peers = []peer{{
	"haproxy", "haproxy", `global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen tunnel
    bind 127.0.0.1:%d
    server s 127.0.0.1:%d ssl verify required ca-file %s verifyhost example.com sni str(example.com)
`, []string{"-db", "-f"},
}, {
	"stunnel", "stunnel4", `foreground = yes
pid =
debug = err
[tunnel]
client = yes
accept = 127.0.0.1:%d
connect = 127.0.0.1:%d
CAfile = %s
verifyChain = yes
checkHost = example.com
sni = example.com
`, nil,
}}

// peers compares a tunnel with programs written in C, with the same pieces in
// TLS. Only the tunnel has frames with pings around them.
func (b *bench) peers(ctx context.Context) (err error) {
	a, err := b.readyAgent(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	s, err := b.startStreams()
	if err != nil {
		return err
	}
	defer s.close()
	rivals := []rival{{way{"berth", through(a.addr(0)).dial}, a.addr(0), a.pid()}}
	for _, p := range peers {
		path, err := exec.LookPath(p.program)
		if err != nil {
			b.say("  without %s: %v", p.name, err)
			continue
		}
		v, stop, err := b.startPeer(ctx, p, path, s)
		if err != nil {
			return err
		}
		defer stop()
		rivals = append(rivals, v)
	}
	rivals = append(rivals, rival{way: way{"no hop", s.dial}})
	for _, k := range []streamKind{{"down", []byte{cmdDown}, 1, ""}, {"up", []byte{cmdUp}, 1, ""}} {
		if err := b.peerFlows(ctx, k, rivals); err != nil {
			return err
		}
	}
	return nil
}

// peerFlows measures all of them in turns.
func (b *bench) peerFlows(ctx context.Context, k streamKind, rivals []rival) error {
	got := make([][]flow, len(rivals))
	for round := range b.times(5, 1) {
		if err := b.calm(ctx); err != nil {
			return err
		}
		for i := range rivals {
			i = (i + round) % len(rivals)
			pids := []int{self()}
			if rivals[i].pid != 0 {
				pids = append(pids, rivals[i].pid)
			}
			f, err := b.flow(ctx, rivals[i].way, k, pids...)
			if err != nil {
				return fmt.Errorf("%s by %s: %w", k.what, rivals[i].name, err)
			}
			got[i] = append(got[i], f)
		}
	}
	var rates, cpus []string
	cpu := func(f flow) float64 { return f.cpuOwn }
	for i, v := range rivals {
		rates = append(rates, v.name+" "+spread(each(got[i], func(f flow) float64 { return f.rate }), "%.0f")+" MB/s")
		if v.pid != 0 {
			cpus = append(cpus, v.name+" "+spread(each(got[i], cpu), "%.2f"))
		}
	}
	b.add(row{what: "stream " + k.what + ", pieces of 8 KB: speed", measured: strings.Join(rates, ", ")})
	line := row{what: "stream " + k.what + ", pieces of 8 KB: CPU-s/GB in between", measured: strings.Join(cpus, ", ")}
	if rivals[1].name == "haproxy" {
		of := ratios(got[0], got[1], cpu)
		line.measured = fmt.Sprintf("berth ÷ haproxy %s: %s", spread(of, "%.2f"), line.measured)
		line.budget, line.verdict = "≤ 1 × haproxy", within(median(of), 1)
	}
	b.add(line)
	return nil
}

// tlsStreams is a TLS server with the backend behind it.
type tlsStreams struct {
	listener net.Listener
	caFile   string
	roots    *x509.CertPool
}

func (b *bench) startStreams() (*tlsStreams, error) {
	made := httptest.NewUnstartedServer(nil) // for its certificate
	made.StartTLS()
	cert := made.TLS.Certificates[0]
	made.Close()
	s := &tlsStreams{caFile: filepath.Join(b.dir, "streams-ca.pem"), roots: x509.NewCertPool()}
	block := &pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}
	s.roots.AppendCertsFromPEM(pem.EncodeToMemory(block))
	if err := os.WriteFile(s.caFile, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	var err error
	s.listener, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, DynamicRecordSizingDisabled: true,
	})
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = b.backend.Serve(context.Background(), conn, simdb.Session{}) // it ends when the client leaves
				_ = conn.Close()
			}()
		}
	}()
	return s, nil
}

func (s *tlsStreams) port() int { return s.listener.Addr().(*net.TCPAddr).Port }

func (s *tlsStreams) close() { _ = s.listener.Close() } // nothing is lost with it

func (s *tlsStreams) dial(ctx context.Context) (net.Conn, error) {
	d := tls.Dialer{Config: &tls.Config{RootCAs: s.roots, ServerName: "example.com", MinVersion: tls.VersionTLS13}}
	return d.DialContext(ctx, "tcp", s.listener.Addr().String())
}

func (b *bench) startPeer(ctx context.Context, p peer, path string, to *tlsStreams) (rival, func(), error) {
	ports, err := freePorts(1)
	if err != nil {
		return rival{}, nil, err
	}
	file := filepath.Join(b.dir, p.name+".conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, p.config, ports[0], to.port(), to.caFile), 0o600); err != nil {
		return rival{}, nil, err
	}
	cmd := exec.CommandContext(ctx, path, append(p.args, file)...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return rival{}, nil, err
	}
	stop := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
	knockCtx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	if err := knock(knockCtx, ports); err != nil {
		stop()
		return rival{}, nil, fmt.Errorf("start %s: %w: %s", p.name, err, &said)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", ports[0])
	return rival{way{p.name, through(addr).dial}, addr, cmd.Process.Pid}, stop, nil
}
