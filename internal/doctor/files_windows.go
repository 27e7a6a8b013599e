package doctor

import "context"

// checkFiles leaves the files to Windows, which keeps each user's folders from
// the others.
func (d *doctor) checkFiles(context.Context) []Finding {
	return one("files", Skip, "Windows keeps other users out of your profile's folders", "")
}
