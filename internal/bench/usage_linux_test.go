package main

import (
	"os"
	"os/exec"
	"testing"
)

func TestChildrenCPU(t *testing.T) {
	before, err := childrenCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), "sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	if after, err := childrenCPU(os.Getpid()); err != nil || after <= before {
		t.Errorf("a child that counted took %s, %v", after-before, err)
	}
	if peak := peakOf(child.ProcessState); peak < 100<<10 || peak > 1<<30 {
		t.Errorf("a shell had %d bytes", peak)
	}
}
