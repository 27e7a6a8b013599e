package tray

import "context"

// aboutTSH is what a person without tsh should do.
const aboutTSH = `berth logs in through tsh, Teleport's own client, and there is none here.

1. Get it from https://goteleport.com/download, the version of your cluster, or
   from whoever gave you access to Teleport.
2. Put it on your PATH, or name it in berth's config:  tsh: {path: /where/it/is}
3. Choose "Log in" in the tray's menu.
`

// examine has the doctor look, and shows the report: in the window, which has
// a doctor of its own, else in a dialog, else in a file.
func (f *front) examine(ctx context.Context, a Action) {
	f.inWindow(ctx, PageDoctor, func() { f.examineHere(ctx, a) })
}

// examineHere has the doctor look without the window.
func (f *front) examineHere(ctx context.Context, a Action) {
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
				f.notes.withdraw(answerID)
				f.show(ctx, found.Title, found.Report, func() { f.tellFound(ctx, found) })
			}
		}
	})
}

// tellFound tells what the doctor found where no dialog can be shown.
func (f *front) tellFound(ctx context.Context, found Checkup) {
	f.tell(found.Title, found.Text, ownButton(verbReport, "Open report"))
	if !f.notifier.Capabilities().Actions {
		// There is no button to press: whoever asked wants to see it.
		f.start(ctx, Action{Do: doOpenReport})
	}
}
