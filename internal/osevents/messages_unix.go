//go:build linux || darwin

package osevents

import (
	"context"
	"fmt"
	"os"
	"sync"
)

// readChanges looks at the network after each burst of messages from f.
// harmless says which errors only mean that messages were lost.
func readChanges(ctx context.Context, m *Monitor, f *os.File, name string, harmless func(error) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = f.Close() })()
	changes := make(chan struct{}, 1)
	hint(changes) // for what came before the socket was bound
	var looking sync.WaitGroup
	looking.Go(func() { afterChanges(ctx, changes, func() { m.lookAtNetwork(name) }) })
	defer looking.Wait()
	defer cancel()
	for buf := make([]byte, 16<<10); ; {
		if _, err := f.Read(buf); err != nil && !harmless(err) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("read %s: %w", name, err)
		}
		hint(changes)
	}
}
