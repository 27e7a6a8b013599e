package tray

import "context"

// examine has the doctor look, and tells what it found.
func (f *front) examine(ctx context.Context, a Action) {
	if f.env.Examining {
		return
	}
	f.env.Examining = true
	f.tell("The doctor is looking", "It checks everything from the proxy to the desktop, and takes at most ten seconds.")
	f.draw()
	f.beside(ctx, a, func(ctx context.Context) func() {
		found, err := f.Doctor(ctx)
		return func() {
			f.env.Examining = false
			switch {
			case ctx.Err() != nil:
			case err != nil:
				f.Logger.Warn("the doctor failed", "err", err)
				f.tell("The doctor failed", sentence(err))
			default:
				f.tell(found.Title, found.Text, ownButton(verbReport, "Open report"))
				if !f.notifier.Capabilities().Actions {
					// There is no button to press: whoever asked wants to see it.
					f.start(ctx, Action{Do: DoOpenReport})
				}
			}
		}
	})
}
