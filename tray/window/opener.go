package window

import (
	"context"
	"sync"
)

// Opener serves the window whenever it is wanted: one server at a time, which ends by
// itself. Make one with [NewOpener].
type Opener struct {
	ctx context.Context // what is served ends with it
	cfg Config

	parts  sync.WaitGroup
	mu     sync.Mutex // guards server
	server *Server    // nil: none was wanted yet
}

// NewOpener returns an opener whose servers end with ctx.
func NewOpener(ctx context.Context, cfg Config) *Opener { return &Opener{ctx: ctx, cfg: cfg} }

// Link returns a link that opens the window once, as [Server.Link] does; a server is
// started if none runs.
func (o *Opener) Link(path string) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.server == nil || o.server.ended() {
		server, err := New(o.ctx, o.cfg)
		if err != nil {
			return "", err
		}
		o.server = server
		o.parts.Go(func() {
			if err := server.Run(o.ctx); err != nil {
				o.cfg.Logger.Error("the window ended", "err", err)
			}
		})
	}
	return o.server.Link(path), nil
}

// Wait returns when what was served has ended.
func (o *Opener) Wait() { o.parts.Wait() }
