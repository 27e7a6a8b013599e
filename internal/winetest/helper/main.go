// Command helper is what the test under Wine runs there beside berth:
//
//	helper echo ADDRESS BYTES   send so many bytes and compare what comes back
//	helper window CLASS FILE    write to FILE whether a window of the class is seen
//	helper pipe                 open the agent's pipe as its user and as someone else, and look at its access list
//	helper get URL              print the status of a page
package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"berth/internal/paths"
)

// patience bounds the exchange.
const patience = 30 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "helper:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(args []string) error {
	words := map[string]int{"echo": 3, "window": 3, "pipe": 1, "get": 2}
	if len(args) == 0 || len(args) != words[args[0]] {
		return fmt.Errorf("what %q is to do is not said", args)
	}
	switch args[0] {
	case "pipe":
		p, err := paths.Resolve(os.Getenv)
		if err != nil {
			return err
		}
		return tryPipe(p.Socket)
	case "get":
		return get(args[1])
	case "echo":
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return echo(args[1], n)
	case "window":
		return os.WriteFile(args[2], []byte(strconv.FormatBool(windowSeen(args[1]))), 0o600)
	default:
		return fmt.Errorf("no command %q", args[0])
	}
}

// get prints the status of a page.
func get(url string) error {
	resp, err := (&http.Client{Timeout: patience}).Get(url) //nolint:noctx // it has a limit
	if err != nil {
		return err
	}
	fmt.Println("status", resp.StatusCode)
	return resp.Body.Close()
}

// echo sends n bytes to address, which are expected back.
func echo(address string, n int) error {
	conn, err := net.DialTimeout("tcp", address, patience) //nolint:noctx // it has a limit
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	sent := make([]byte, n)
	_, _ = rand.Read(sent) // it never fails
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		failed <- err
	}()
	got := make([]byte, n)
	if _, err := io.ReadFull(conn, got); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := <-failed; err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if !bytes.Equal(sent, got) {
		return errors.New("other bytes have come back")
	}
	fmt.Println(n, "bytes came back")
	return nil
}
