package main

import (
	"context"
	"path/filepath"

	"berth/internal/e2elab"
)

// lab is the real cluster of the end-to-end tests, kept up for the benchmarks,
// and a home that is logged in to it.
type lab struct {
	Home        string `json:"home"` // TELEPORT_HOME
	Proxy       string `json:"proxy"`
	CAFile      string `json:"ca_file"`
	Cluster     string `json:"cluster"`
	Database    string `json:"database"`
	DBUser      string `json:"db_user"`
	DBName      string `json:"db_name"`
	Kube        string `json:"kube"`
	TSH         string `json:"tsh"`
	PostgresBin string `json:"postgres_bin"`
	Version     string `json:"version"`
	// Of TestPatternsLab alone: the home of someone who decides, and the role
	// that may be asked for.
	Decider string `json:"decider"`
	Role    string `json:"role"`

	lab *e2elab.Lab
}

// startLab has one of the end-to-end tests start its cluster.
func (b *bench) startLab(ctx context.Context, test string) (*lab, error) {
	program := filepath.Join(b.dir, "lab.test")
	if err := e2elab.Build(ctx, program); err != nil {
		return nil, err
	}
	l := &lab{}
	var err error
	l.lab, err = e2elab.Start(ctx, program, test, b.binary, l)
	return l, err
}

// close ends the cluster.
func (l *lab) close() error { return l.lab.Close() }
