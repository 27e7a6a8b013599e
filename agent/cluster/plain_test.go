package cluster

import (
	"errors"
	"testing"
)

func TestPlain(t *testing.T) {
	for _, tt := range []struct{ name, said, want string }{
		{"ends_in_a_name", `user "alice" can not request role "dba"`, `user "alice" can not request role "dba"`},
		{"begins_with_a_name", `"dba" is no role`, `"dba" is no role`},
		{
			"grpc", `rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: refused"`,
			"dial tcp 127.0.0.1:1: refused",
		},
		{"lines", "a\n\tb", "a b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := plain(errors.New(tt.said)).Error(); got != tt.want {
				t.Errorf("plain(%q) = %q, want %q", tt.said, got, tt.want)
			}
		})
	}
}
