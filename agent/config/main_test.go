package config

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(editorEnv); path != "" {
		editForEver(path)
	}
	goleak.VerifyTestMain(m)
}
