package agent

import (
	"context"
	"fmt"

	"berth/agent/ipc"
	"berth/agent/registry"
	"berth/agent/state"
)

// The methods below answer at the control socket what commands and the tray ask of the
// agent itself; what they ask about tunnels and resources, agent/registry answers.

// ReloadConfig reads the config file now and applies it, instead of waiting
// for the file watcher to notice.
func (a *Agent) ReloadConfig(ctx context.Context) error {
	loaded, err := a.config.Reload(ctx)
	if err != nil {
		return err
	}
	if err := a.applyConfig(ctx); err != nil {
		return err
	}
	a.kube.Settled(ctx)
	a.publish()
	if loaded.Err != nil {
		return registry.Word(loaded.Err)
	}
	return nil
}

// Shutdown asks the agent to close its ports, drain and exit.
func (a *Agent) Shutdown() {
	a.next.forGood.Store(true)
	a.stop()
}

// HandOver starts a successor and returns when that serves. Env is put over this
// process's environment. An error means that nothing has changed.
func (a *Agent) HandOver(ctx context.Context, program string, env []string) (ipc.Successor, error) {
	return a.next.ask(ctx, program, env)
}

// LocalCA returns the certificate of the local CA.
func (a *Agent) LocalCA(ctx context.Context) (ipc.LocalCA, error) {
	ca, err := a.kube.CACert(ctx)
	if err != nil {
		return ipc.LocalCA{}, &ipc.Error{
			Code: ipc.CodeFailed, Message: fmt.Sprintf("there is no local CA: %v", err), Hint: "berth doctor",
		}
	}
	return ipc.LocalCA{Path: ca.Path, PEM: ca.PEM, ValidUntil: ca.ValidUntil}, nil
}

// Snapshot returns what was published last. It must not be changed.
func (a *Agent) Snapshot() *state.Snapshot { return a.pub.hub.cur.Load() }

// Subscribe returns a channel that receives after each newer snapshot, and the
// function that ends the subscription.
func (a *Agent) Subscribe() (<-chan struct{}, func()) {
	ch, cancel := a.pub.hub.followers.Subscribe()
	a.touch() // the loop may be in its idle sleep; watchers want counters
	a.pub.hurry.Wake()
	return ch, cancel
}

// DismissNotice takes a notice off the screen for good.
func (a *Agent) DismissNotice(_ context.Context, id string) error {
	a.pub.mu.Lock()
	known := a.pub.tracker != nil && a.pub.tracker.Dismiss(id)
	a.pub.mu.Unlock()
	if !known {
		return &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("there is no longer a notice %q", id)}
	}
	a.publish()
	return nil
}
