package tunnel

import (
	"fmt"
	"strings"

	"berth/agent/state"
)

// changedKeys names the config keys in which two versions of a tunnel differ.
func changedKeys(from, to state.TunnelSpec) string {
	var keys []string
	differ := func(key string, a, b any) {
		if a != b {
			keys = append(keys, fmt.Sprintf("%s from %v to %v", key, orNone(a), orNone(b)))
		}
	}
	differ("kind", from.Kind, to.Kind)
	differ("cluster", from.Cluster, to.Cluster)
	differ("resource", from.Resource, to.Resource)
	differ("db_user", from.DBUser, to.DBUser)
	differ("db_name", from.DBName, to.DBName)
	differ("port", from.Port, to.Port)
	differ("hold", from.HoldDuration(), to.HoldDuration())
	differ("engine", from.Engine, to.Engine)
	differ("guard", from.Guarded(), to.Guarded())
	return strings.Join(keys, ", ")
}

func orNone(v any) any {
	if fmt.Sprint(v) == "" {
		return "nothing"
	}
	return v
}
