// Package cocoa calls macOS's frameworks without cgo. Elsewhere it is empty.
package cocoa
