package words

import (
	"testing"

	"berth/internal/testwait"
)

func TestMain(m *testing.M) { testwait.NoLeaks(m) }
