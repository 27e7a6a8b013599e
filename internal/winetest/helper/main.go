// Command helper is what the test under Wine runs there beside berth:
//
//	helper echo ADDRESS BYTES   send so many bytes and compare what comes back
//	helper window CLASS FILE    write to FILE whether a window of the class is seen
package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
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
	if len(args) != 3 {
		return errors.New("three words are wanted")
	}
	switch args[0] {
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
