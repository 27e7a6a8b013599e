// Command testreport runs "go test" with its arguments and prints what a
// person wants to read: a line for each package as it ends, the output of what
// failed, and at the end every skipped test with its reason and the tests that
// took longest. If a coverage profile is among what "go test" is to write, it
// prints how much of each package is covered, the least covered first. It exits
// as "go test" does.
//
// With -again as the first argument, a few failed tests are run once more without the
// others beside them, and decide: for machines that are as busy as they like. No
// data race, panic, leaked goroutine or failed build is excused. The last argument
// then names the packages, and all before it are flags.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	againFlag   = "-again"
	profileFlag = "-coverprofile="
	// The race detector has a program sleep for a second at its end by default, for
	// what other goroutines may still do: with eighty packages that is most of a minute.
	// Huge pages save a fifth of what it takes to start one.
	raceOptions = "GORACE=atexit_sleep_ms=50 no_huge_pages_for_shadow=0"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	// Of a Ctrl-C "go test" hears by itself; what it then says is still read.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	signal.Ignore(os.Interrupt)
	again := len(args) > 1 && args[0] == againFlag
	if again {
		args = args[1:]
	}
	// Most tests wait most of the time: one package for each processor, and as many
	// tests in each, leave them idle.
	packages, parallel := strconv.Itoa(2+runtime.NumCPU()), strconv.Itoa(2*runtime.NumCPU())
	began := time.Now()
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json", "-p", packages, "-parallel", parallel}, args...)...)
	if os.Getenv("GORACE") == "" {
		cmd.Env = append(os.Environ(), raceOptions)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		return 2
	}
	r := newReport(os.Stdout)
	readErr := r.read(out)
	if readErr != nil {
		fmt.Fprintln(os.Stderr, "testreport:", readErr)
		_, _ = io.Copy(io.Discard, out) // so that "go test" can end
	}
	err = cmd.Wait()
	if i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, profileFlag) }); i >= 0 {
		if err := printCoverage(os.Stdout, strings.TrimPrefix(args[i], profileFlag)); err != nil {
			fmt.Fprintln(os.Stderr, "testreport:", err)
		}
	}
	r.summary()
	fmt.Printf("%s, and %s of processor time.\n", time.Since(began).Round(time.Second),
		(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Round(time.Second))
	if again && len(r.failed) > 0 && readErr == nil && runAgain(ctx, os.Stdout, args[:len(args)-1], r.toRunAgain()) {
		return 0
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	case err != nil || readErr != nil:
		return 1
	default:
		return 0
	}
}

// read prints what is to be seen at once.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil { // what is no event is printed as it is
				_, _ = r.out.Write(line)
			} else {
				r.add(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what go test says: %w", err)
		}
	}
}
