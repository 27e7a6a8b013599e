// Package licenses holds the licences of everything that berth is built with.
package licenses

import _ "embed"

// Text names each module that berth links on one of its systems and what its
// pages for a browser are built with, and gives the licence of each. "make deps"
// writes it.
//
//go:embed THIRD_PARTY_LICENSES
var Text string
