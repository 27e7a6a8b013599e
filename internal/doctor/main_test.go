package doctor

import (
	"os"
	"testing"
	"time"

	"berth/internal/testwait"
)

// patience is how many times its usual time everything has here, where a busy machine's
// delays are no findings.
const patience = 3

func TestMain(m *testing.M) {
	for _, limit := range []*time.Duration{&Limits.Check, &Limits.Run, &Limits.Agent, &Limits.Step} {
		*limit *= patience
	}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		_ = os.Unsetenv(name)
	}
	_ = os.Setenv("DBUS_SESSION_BUS_ADDRESS", "none:") // a test that wants a desktop has its own
	testwait.ManyAtOnce()
	testwait.NoLeaks(m)
}
