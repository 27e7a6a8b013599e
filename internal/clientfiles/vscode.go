package clientfiles

import (
	"fmt"
	"slices"

	"github.com/tailscale/hujson"

	"berth/proxies/db"
)

// vscode is the format of VS Code's settings.json, with the connections of its
// extension SQLTools. berth's are in a group of their own.
type vscode struct{}

const (
	sqlTools      = "sqltools.connections"
	sqlToolsGroup = "berth"
)

// sqlToolsDriver is SQLTools' name for the driver of a protocol.
var sqlToolsDriver = map[string]string{
	"postgres": "PostgreSQL", "cockroachdb": "CockroachDB", "mysql": "MySQL", "sqlserver": "MSSQL",
}

type sqlToolsConnection struct {
	Name     string `json:"name"`
	Group    string `json:"group"`
	Driver   string `json:"driver"`
	Server   string `json:"server"`
	Port     int    `json:"port"`
	Database string `json:"database"`
	Username string `json:"username"`
	Password string `json:"password"` // empty: SQLTools asks for none
	Preview  int    `json:"previewLimit"`
}

func (vscode) parse(data []byte) (*document, *hujson.Value, error) {
	d, err := parseDocument(data, "    ", false)
	if err != nil {
		return nil, nil, err
	}
	list := member(&d.root, sqlTools)
	if list != nil {
		if _, ok := list.Value.(*hujson.Array); !ok {
			return nil, nil, fmt.Errorf("its %q is no list", sqlTools)
		}
	}
	return d, list, nil
}

func (f vscode) entries(data []byte) ([]Entry, error) {
	_, list, err := f.parse(data)
	if err != nil || list == nil {
		return nil, err
	}
	var entries []Entry
	for _, it := range itemsOf(list) {
		if textOf(it.value, "group") == sqlToolsGroup {
			entries = append(entries, Entry{
				Tunnel: textOf(it.value, "name"), Address: textOf(it.value, "server") + ":" + textOf(it.value, "port"),
			})
		}
	}
	return entries, nil
}

// find returns the place in the list of berth's connection of that name; an
// error if another connection has the name. -1 means that there is none.
func (vscode) find(list *hujson.Value, name string) (int, error) {
	if list == nil {
		return -1, nil
	}
	found := -1
	for i, it := range itemsOf(list) {
		switch {
		case textOf(it.value, "name") != name:
		case textOf(it.value, "group") == sqlToolsGroup:
			found = i
		default:
			return -1, fmt.Errorf("connection %q: %w", name, ErrTaken)
		}
	}
	return found, nil
}

func (f vscode) put(data []byte, proto db.Protocol, ep db.Endpoint, _ string) ([]byte, error) {
	d, list, err := f.parse(data)
	if err != nil {
		return nil, err
	}
	i, err := f.find(list, ep.TunnelName)
	if err != nil {
		return nil, err
	}
	conn := sqlToolsConnection{
		Name: ep.TunnelName, Group: sqlToolsGroup, Driver: sqlToolsDriver[proto.Name], Server: ep.Host, Port: ep.Port,
		Database: ep.DBName, Username: ep.DBUser, Preview: 50,
	}
	render := func(indent string) string { return d.render(conn, indent) }
	var after []byte
	switch {
	case i >= 0:
		after = d.replace(itemsOf(list)[i], render)
	case list != nil:
		after = d.insert(list, render)
	default:
		after = d.insert(&d.root, func(indent string) string {
			return quoted(sqlTools) + "[" + d.newline + indent + d.unit + render(indent+d.unit) + d.newline + indent + "]"
		})
	}
	return d.bytes(after), sameBut(d, after, false, stripConnection(ep.TunnelName))
}

func (f vscode) remove(data []byte, tunnel string) ([]byte, error) {
	d, list, err := f.parse(data)
	if err != nil {
		return nil, err
	}
	i, err := f.find(list, tunnel)
	if err != nil {
		return nil, err
	}
	if i < 0 {
		return nil, ErrNone
	}
	after := d.cut(list, i)
	return d.bytes(after), sameBut(d, after, false, stripConnection(tunnel))
}

// stripConnection removes berth's connection of that name, and the list if it
// is empty then.
func stripConnection(name string) func(map[string]any) {
	return func(v map[string]any) {
		list, ok := v[sqlTools].([]any)
		if !ok {
			return
		}
		list = slices.DeleteFunc(list, func(e any) bool {
			m, ok := e.(map[string]any)
			return ok && m["group"] == sqlToolsGroup && m["name"] == name
		})
		if v[sqlTools] = list; len(list) == 0 {
			delete(v, sqlTools)
		}
	}
}
