package db

import "bytes"

// spanner's clients speak plaintext gRPC to what they take for an emulator. There
// is no refusal for them.
var spanner = Protocol{
	Name:        "spanner",
	Title:       "Spanner",
	ALPN:        "teleport-spanner",
	Native:      true,
	NeedsDBUser: true,
	secure:      secureDirect("h2"),
	opens:       opensBy(len(http2Preface), func(first []byte) bool { return bytes.HasPrefix(first, []byte(http2Preface)) }),
	client: client{
		noTLS:    true,
		env:      func(e Endpoint) []string { return []string{"SPANNER_EMULATOR_HOST=" + e.addr()} },
		clear:    []string{"CLOUDSDK_API_ENDPOINT_OVERRIDES_SPANNER"},
		programs: []program{{names: []string{"hammer", "spanner-cli", "spanner-dump", "spanner-truncate", "wrench"}}},
	},
}
