package osevents

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// listenTimer waits on a timer that is far away, and that the kernel cancels
// when the wall clock is set and when the machine wakes. It needs no bus, and
// costs nothing until then.
func listenTimer(ctx context.Context, m *Monitor, up func()) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make a timer: %w", err)
	}
	f := os.NewFile(uintptr(fd), "timerfd")
	defer f.Close() //nolint:errcheck // only read from
	defer context.AfterFunc(ctx, func() { _ = f.Close() })()
	for armed := false; ; armed = true {
		far := unix.ItimerSpec{Value: unix.NsecToTimespec(time.Now().AddDate(1, 0, 0).UnixNano())}
		if err := arm(f, &far); err != nil {
			return err
		}
		if !armed {
			up()
		}
		m.lookAtClock("timerfd", false) // also for what came before the timer was set
		_, err := f.Read(make([]byte, 8))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ECANCELED):
		case err != nil:
			return fmt.Errorf("wait for the timer: %w", err)
		}
	}
}

func arm(f *os.File, when *unix.ItimerSpec) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	err = conn.Control(func(fd uintptr) {
		setErr = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, when, nil)
	})
	if err = errors.Join(err, setErr); err != nil {
		return fmt.Errorf("set the timer: %w", err)
	}
	return nil
}
