package db

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestProbes has servers answer probes, with what real Teleport was seen to say
// where it refuses.
func TestProbes(t *testing.T) {
	mongoServed := string(binary.LittleEndian.AppendUint32(nil, 16+5+12+5)) + "\x01\x00\x00\x00\x01\x00\x00\x00\xdd\x07\x00\x00\x00\x00\x00\x00\x00" +
		"\x11\x00\x00\x00\x01ok\x00\x00\x00\x00\x00\x00\x00\xf0\x3f\x00"
	frame := func(code byte, body string) string {
		return "\x84\x00\x00\x00" + string([]byte{code}) + string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
	}
	asks := frame(3, "\x00\x01x")
	for name, tt := range map[string]struct {
		proto  Protocol
		server string
		want   string // the error; empty: none
	}{
		"mongodb":            {mongodb, mongoServed, ""},
		"mongodb_denied":     {mongodb, mongoDenied, accessDenied},
		"cassandra":          {cassandra, frame(2, ""), ""},
		"cassandra_password": {cassandra, asks + frame(0x10, ""), ""},
		"cassandra_denied":   {cassandra, asks + frame(0, "\x00\x00\x00\x00\x00\x06denied"), "denied"},
		"clickhouse":         {clickhouse, "\x00\x0aClickHouse", ""},
		"clickhouse_denied":  {clickhouse, "", "closed without an answer"},
	} {
		t.Run(name, func(t *testing.T) {
			if !tt.proto.Probes("app") {
				t.Fatal("there is no probe")
			}
			client, server := net.Pipe()
			defer client.Close()
			if err := client.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			heard := make(chan []byte, 1)
			go func() {
				first := make([]byte, 4096)
				n, _ := server.Read(first)
				heard <- first[:n]
				_, _ = io.WriteString(server, tt.server) // the probe says what it made of it
				_ = server.Close()
			}()
			err := tt.proto.Probe(client, "app", "")
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("the probe says %v, want %q", err, tt.want)
			}
			if first := <-heard; tt.proto.opens(first) != verdictOurs {
				t.Errorf("no client of the protocol begins with %q", first)
			}
		})
	}
}

// TestMongoProbe reads the probe as MongoDB does.
func TestMongoProbe(t *testing.T) {
	said := []byte(mongoProbe("", ""))
	var hello struct {
		Hello  int
		DB     string `bson:"$db"`
		Client struct {
			Application struct{ Name string }
			Driver      struct{ Name, Version string }
			OS          struct{ Type string }
		}
	}
	if err := bson.Unmarshal(said[mongoHead+5:], &hello); err != nil {
		t.Fatal(err)
	}
	if int(binary.LittleEndian.Uint32(said)) != len(said) || hello.Hello != 1 || hello.DB != "admin" || hello.Client.Application.Name != probeMark {
		t.Errorf("the probe is %d bytes of %+v", len(said), hello)
	}
}
