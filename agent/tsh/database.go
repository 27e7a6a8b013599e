package tsh

import (
	"context"
	"net"
	"strconv"
)

// Database is a tunnel to a database: its child is a "tsh proxy db --tunnel".
type Database struct {
	Name   string // the resource's; required
	User   string // of the database; empty means none is given
	DBName string // empty means none is given
}

func (d Database) name() string { return d.Name }

func (d Database) check() error { return nil }

func (d Database) args(port int) []string {
	args := []string{"proxy", "db", "--tunnel", "--port=" + strconv.Itoa(port)}
	if d.User != "" {
		args = append(args, "--db-user="+d.User)
	}
	if d.DBName != "" {
		args = append(args, "--db-name="+d.DBName)
	}
	return args
}

func (d Database) env(int) []string { return nil }

// reach has nothing to find out: what is sent to the child's port reaches the
// database.
func (d Database) reach(int) (connect, error) {
	return func(_ context.Context, conn net.Conn, _ []string) (net.Conn, error) { return conn, nil }, nil
}

func (d Database) transparent() bool { return true }

func (d Database) clean(int) {}
