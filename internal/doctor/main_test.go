package doctor

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		_ = os.Unsetenv(name)
	}
	_ = os.Setenv("DBUS_SESSION_BUS_ADDRESS", "none:") // a test that wants a desktop has its own
	testwait.ManyAtOnce()
	goleak.VerifyTestMain(m)
}
