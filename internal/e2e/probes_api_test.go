//go:build e2e && linux

package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
)

// apiProbes are about what the auth service and the web API tell.
var apiProbes = []probe{
	{name: "listed_databases", want: "pg postgres", ask: func(ctx context.Context, w *world) string {
		page, err := client.GetResourcePage[types.DatabaseServer](ctx, w.clt, &proto.ListResourcesRequest{
			ResourceType: types.KindDatabaseServer, Limit: 100, UseSearchAsRoles: false,
		})
		if err != nil {
			return err.Error()
		}
		var lines []string
		for _, server := range page.Resources {
			db := server.GetDatabase()
			if db.GetName() != "pg-away" { // the simulation has none
				lines = append(lines, fmt.Sprintf("%s %s env=%s type %s", db.GetName(), db.GetProtocol(), db.GetAllLabels()["env"], db.GetType()))
			}
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}},
	{name: "mfa_is_not_required", want: "Required:false", ask: func(ctx context.Context, w *world) string {
		r, err := w.clt.IsMFARequired(ctx, &proto.IsMFARequiredRequest{Target: &proto.IsMFARequiredRequest_Database{
			Database: &proto.RouteToDatabase{ServiceName: "pg", Protocol: "postgres", Username: "app"},
		}})
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("Required:%t MFARequired:%s", r.Required, r.MFARequired)
	}},
	{name: "mfa_for_an_unknown_database", ask: func(ctx context.Context, w *world) string {
		r, err := w.clt.IsMFARequired(ctx, &proto.IsMFARequiredRequest{Target: &proto.IsMFARequiredRequest_Database{
			Database: &proto.RouteToDatabase{ServiceName: "nowhere", Protocol: "postgres", Username: "app"},
		}})
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("Required:%t MFARequired:%s", r.Required, r.MFARequired)
	}},
	{name: "ping", want: "ref.test", ask: func(ctx context.Context, w *world) string {
		r, err := w.clt.Ping(ctx)
		if err != nil {
			return err.Error()
		}
		major, _, _ := strings.Cut(r.ServerVersion, ".")
		return fmt.Sprintf("%s v%s", r.ClusterName, major)
	}},
	{name: "own_roles", want: roleDB, ask: func(ctx context.Context, w *world) string {
		roles, err := w.clt.GetCurrentUserRoles(ctx)
		if err != nil {
			return err.Error()
		}
		var lines []string
		for _, r := range roles {
			if r.GetName() == "default-implicit-role" {
				continue // everyone has it, and it allows no database
			}
			lines = append(lines, fmt.Sprintf("%s users %v names %v mfa %v", r.GetName(),
				r.GetDatabaseUsers(types.Allow), r.GetDatabaseNames(types.Allow), r.GetOptions().RequireMFAType))
		}
		return strings.Join(lines, "\n")
	}},
	{name: "rpcs_newer_than_v16_are_unknown", want: "not implemented: true", ask: func(ctx context.Context, w *world) string {
		_, err := w.clt.ListAccessRequests(ctx, &proto.ListAccessRequestsRequest{Limit: 1})
		return fmt.Sprintf("not implemented: %t", trace.IsNotImplemented(err))
	}},
	{name: "web_ping", want: "cluster_name string", ask: func(ctx context.Context, w *world) string {
		return w.webPing(ctx, "/webapi/ping")
	}},
	{name: "web_ping_local", ask: func(ctx context.Context, w *world) string { return w.webPing(ctx, "/webapi/ping/local") }},
	{name: "web_ping_unknown_connector", ask: func(ctx context.Context, w *world) string { return w.webPing(ctx, "/webapi/ping/nowhere") }},
}

// changing are keys that some releases of v16 have and others have not, and
// that say nothing about how to connect.
var changing = []string{"edition", "proxy.assist_enabled", "auth.device_trust.disabled"}

// webPing tells the answer's keys, and the values that do not differ from
// world to world.
func (w *world) webPing(ctx context.Context, path string) string {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.webCAs}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+w.proxyAddr+path, nil)
	if err != nil {
		return err.Error()
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return endOf(err)
	}
	defer resp.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Sprintf("%d %v", resp.StatusCode, err)
	}
	var lines []string
	flatten("", answer, &lines)
	lines = slices.DeleteFunc(lines, func(line string) bool {
		key, _, _ := strings.Cut(line, " ")
		return slices.Contains(changing, key)
	})
	slices.Sort(lines)
	return fmt.Sprintf("%d\n%s", resp.StatusCode, w.anonymous(strings.Join(lines, "\n")))
}

// flatten lists the leaves of a JSON object: path and type, and the value
// where it says something about the protocol.
func flatten(prefix string, v map[string]any, lines *[]string) {
	for key, val := range v {
		path := strings.TrimPrefix(prefix+"."+key, ".")
		switch x := val.(type) {
		case map[string]any:
			flatten(path, x, lines)
		case bool:
			*lines = append(*lines, fmt.Sprintf("%s %t", path, x))
		case string:
			*lines = append(*lines, path+" string")
		default:
			*lines = append(*lines, fmt.Sprintf("%s %T", path, x))
		}
	}
}
