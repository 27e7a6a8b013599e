package login

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/ipc"
	"berth/agent/state"
	"berth/agent/tsh"
)

// TestLoginIsShared: a prompt is settled for all by the first answer, a late
// participant sees open prompts only, and the last one to leave ends the login.
func TestLoginIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u underway
		key, typed, ended := Key{Proxy: "tele.example.com:443"}, make(chan string, 2), 0
		join := func() *Login {
			return u.join(t.Context(), key, func(ctx context.Context, _ *Login) error {
				<-ctx.Done()
				return ctx.Err()
			}, func() { ended++ })
		}
		follow := func(l *Login) (*[]ipc.LoginEvent, chan ipc.LoginAnswer, func() error) {
			ctx, cancel := context.WithCancel(t.Context())
			seen, answers, result := new([]ipc.LoginEvent), make(chan ipc.LoginAnswer), make(chan error, 1)
			go func() {
				result <- l.Follow(ctx, answers, func(e ipc.LoginEvent) error {
					*seen = append(*seen, e)
					return nil
				})
			}()
			return seen, answers, func() error {
				cancel()
				return <-result
			}
		}
		kinds := func(events []ipc.LoginEvent) (list []state.LoginKind) {
			for _, e := range events {
				list = append(list, e.Kind)
			}
			return list
		}
		l := join()
		first, answers, leaveFirst := follow(l)
		if join() != l {
			t.Fatal("the second did not join")
		}
		second, _, leaveSecond := follow(l)
		l.prompt(key.Proxy, tsh.Prompt{Kind: state.LoginPassword}, func(s string) { typed <- s })
		synctest.Wait()
		id := (*first)[0].ID
		answers <- ipc.LoginAnswer{ID: id, Secret: "right"}
		answers <- ipc.LoginAnswer{ID: id, Secret: "late"}
		synctest.Wait()
		if got := kinds(*second); len(got) != 2 || got[1] != state.LoginSettled || len(typed) != 1 || <-typed != "right" {
			t.Errorf("the other one saw %q", got)
		}
		l.prompt(key.Proxy, tsh.Prompt{Kind: state.LoginOTP}, func(string) {})
		join()
		third, _, leaveThird := follow(l)
		synctest.Wait()
		if got := kinds(*third); len(got) != 1 || got[0] != state.LoginOTP {
			t.Errorf("the late one saw %q, want the open prompt alone", got)
		}
		for _, leave := range []func() error{leaveFirst, leaveSecond} {
			if err := leave(); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		synctest.Wait()
		if u.of(key) != l || ended != 0 {
			t.Error("the login ended while one took part")
		}
		_ = leaveThird()
		u.wait()
		if u.of(key) != nil || ended != 1 || !errors.Is(l.Failure(), ErrLeft) {
			t.Errorf("after the last left: ended %d times with %v", ended, l.Failure())
		}

		l = join()
		if !u.cancel(key) {
			t.Error("no login to cancel")
		}
		if err := l.Follow(t.Context(), nil, func(ipc.LoginEvent) error { return nil }); !errors.Is(err, ErrLeft) || u.cancel(key) {
			t.Errorf("cancelled: %v", err)
		}
		u.wait()
	})
}

// TestLoginAfterCancel: one that is begun while the cancelled one still ends is another.
func TestLoginAfterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u underway
		key, runs := Key{Proxy: "tele.example.com:443"}, 0
		join := func() *Login {
			return u.join(t.Context(), key, func(ctx context.Context, _ *Login) error {
				if runs++; runs > 1 {
					return nil
				}
				<-ctx.Done()
				time.Sleep(time.Second) // tsh takes its time to end
				return ctx.Err()
			}, func() {})
		}
		first := join()
		synctest.Wait()
		u.cancel(key)
		second := join()
		if second == first {
			t.Fatal("it joined the login that was cancelled")
		}
		<-second.ended
		if err := second.Failure(); err != nil || !errors.Is(first.Failure(), ErrLeft) {
			t.Errorf("ended with %v, the one before with %v", err, first.Failure())
		}
		u.wait()
	})
}

// TestNothingStartsAfterWait: a tunnel may ask for a code while the agent stops.
func TestNothingStartsAfterWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u underway
		hold, waited, after := make(chan struct{}), false, false
		u.start(func() { <-hold })
		go func() {
			u.wait()
			waited = true
		}()
		synctest.Wait()
		if waited {
			t.Error("wait did not wait for what had begun")
		}
		u.start(func() { after = true })
		close(hold)
		synctest.Wait()
		if !waited || after {
			t.Errorf("waited %v, and what came after it ran: %v", waited, after)
		}
	})
}
