// Package patterns is for comparing the three ways in which a program can talk
// to a Teleport cluster in a user's name: by running tsh (package tsh), with
// Teleport's Go library (package sdk), and by gRPC with messages of its own
// (package direct). docs/PATTERNS.md has the figures, and what follows from
// them. berth itself does not use this package.
package patterns

import (
	"context"
	"crypto/tls"
	"errors"
	"time"
)

// Backend is one way to talk to a cluster. Its methods are safe for concurrent
// use.
type Backend interface {
	// Ping checks that the auth service answers and accepts the login.
	Ping(ctx context.Context) error
	// Databases lists the root cluster's databases that the user may see, by
	// name, each once; the list may be a second old.
	Databases(ctx context.Context) ([]Database, error)
	// Requests lists the user's own access requests, the order being the
	// cluster's.
	Requests(ctx context.Context) ([]Request, error)
	// WatchRequests calls handle for each of the user's own access requests
	// as it is now, and again for each that is new or has changed. A change
	// may be reported twice. It always returns an error, at the latest when
	// ctx ends. A busy cluster ends watches now and then: begin another.
	WatchRequests(ctx context.Context, handle func(Request)) error
	// MintDB returns a certificate for a database, with its key.
	MintDB(ctx context.Context, to Route) (*tls.Certificate, error)
	// Close ends the connections.
	Close() error
}

// Open returns a backend for the current profile of a home.
type Open func(ctx context.Context, cfg Config) (Backend, error)

// Config says where a login is.
type Config struct {
	Home string // TELEPORT_HOME
	// TSH is the path of tsh, CAFile the CAs of the proxy's web certificate
	// (empty: the system's), and Poll how often a watch asks. They are for
	// the backend that runs tsh.
	TSH, CAFile string
	Poll        time.Duration
}

// Features are what a backend can do beyond the calls of its interface.
type Features struct {
	Push        bool // the cluster reports changes of access requests by itself
	TypedErrors bool // errors are one of those below
	Codes       bool // a one-time code can be given for a certificate
	Upgrade     bool // reaches a proxy behind a balancer that ends TLS
}

// What errors of a backend with TypedErrors are, for errors.Is.
var (
	ErrUnreachable = errors.New("the cluster does not answer")
	ErrExpired     = errors.New("the login has expired")
	ErrDenied      = errors.New("the cluster refuses")
)

// Database is a database of a cluster.
type Database struct{ Name, Protocol string }

// Request is an access request.
type Request struct {
	ID, User string
	Roles    []string
	Reason   string
	State    State
}

// State is a request's state.
type State string

// The states of a request.
const (
	Pending  State = "pending"
	Approved State = "approved"
	Denied   State = "denied"
	Promoted State = "promoted"
)

// StateOf returns the state that Teleport's number stands for.
func StateOf(number int) State {
	return map[int]State{1: Pending, 2: Approved, 3: Denied, 4: Promoted}[number]
}

// Route says which database a certificate is for, and as whom it is used there.
type Route struct {
	Database, Protocol, User, Name string
	Code                           string // a one-time code; empty means none
}
