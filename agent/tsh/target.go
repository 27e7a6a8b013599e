package tsh

import (
	"context"
	"net"
)

// Target is the resource that a [Tunnel] leads to: a [Database] or a
// [KubeCluster]. It knows how the two kinds of children differ.
type Target interface {
	// name is the resource's, the last of the child's arguments.
	name() string
	// check returns what the target lacks.
	check() error
	// args are the first arguments of the child that listens on port.
	args(port int) []string
	// env are the variables that this child gets, each as key=value.
	env(port int) []string
	// reach returns how to use the child on port, which listens already; an
	// error as long as that is not known.
	reach(port int) (connect, error)
	// transparent reports whether all that comes over a connection is from the target:
	// one to which nothing has come is kept waiting by tsh.
	transparent() bool
	// clean removes what the child on port, which has ended, may have left.
	clean(port int)
}

// connect turns a connection to a child's port into a connection to the target,
// offering these versions of HTTP where the target speaks HTTP. On an error
// conn stays open.
type connect func(ctx context.Context, conn net.Conn, versions []string) (net.Conn, error)
