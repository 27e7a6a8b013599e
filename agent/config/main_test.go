package config

import (
	"os"
	"testing"

	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(editorEnv); path != "" {
		editForEver(path)
	}
	testwait.NoLeaks(m)
}
