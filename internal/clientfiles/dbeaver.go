package clientfiles

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"

	"berth/proxies/db"
)

// dbeaver is the format of DBeaver's data-sources.json: an object of
// connections by id. Its user is read from the configuration, though DBeaver
// keeps those that are typed elsewhere. Source: DBeaver,
// DataSourceSerializerModern.
type dbeaver struct{}

// dbeaverPrefix begins the ids of berth's connections.
const dbeaverPrefix = "berth-"

// dbeaverDriver names DBeaver's provider and driver for a protocol.
var dbeaverDriver = map[string][2]string{
	"postgres": {"postgresql", "postgres-jdbc"}, "cockroachdb": {"postgresql", "postgres-jdbc"},
	"mysql": {"mysql", "mysql8"}, "sqlserver": {"sqlserver", "microsoft"},
}

type dbeaverConnection struct {
	Provider      string        `json:"provider"`
	Driver        string        `json:"driver"`
	Name          string        `json:"name"`
	Description   string        `json:"description"`
	SavePassword  bool          `json:"save-password"` // an empty one, so that DBeaver does not ask
	Configuration dbeaverConfig `json:"configuration"`
}

type dbeaverConfig struct {
	Host     string            `json:"host"`
	Port     string            `json:"port"`
	Database string            `json:"database"`
	User     string            `json:"user,omitempty"`
	URL      string            `json:"url"`
	How      string            `json:"configurationType"`
	Type     string            `json:"type"`
	Auth     string            `json:"auth-model"`
	Settings map[string]string `json:"properties,omitempty"` // of the driver
}

func (dbeaver) parse(data []byte) (*document, *hujson.Value, error) {
	d, err := parseDocument(data, "\t", true)
	if err != nil {
		return nil, nil, err
	}
	list := member(&d.root, "connections")
	if list != nil {
		if _, ok := list.Value.(*hujson.Object); !ok {
			return nil, nil, fmt.Errorf("its %q is no object", "connections")
		}
	}
	return d, list, nil
}

func (f dbeaver) entries(data []byte) ([]Entry, error) {
	_, list, err := f.parse(data)
	if err != nil || list == nil {
		return nil, err
	}
	var entries []Entry
	for _, it := range itemsOf(list) {
		name, ok := strings.CutPrefix(it.name, dbeaverPrefix)
		if cfg := member(it.value, "configuration"); ok && cfg != nil {
			entries = append(entries, Entry{Tunnel: name, Address: textOf(cfg, "host") + ":" + textOf(cfg, "port")})
		}
	}
	return entries, nil
}

func (f dbeaver) put(data []byte, proto db.Protocol, ep db.Endpoint, removal string) ([]byte, error) {
	d, list, err := f.parse(data)
	if err != nil {
		return nil, err
	}
	url, err := proto.Format(db.JDBC, ep)
	if err != nil {
		return nil, err
	}
	driver := dbeaverDriver[proto.Name]
	conn := dbeaverConnection{
		Provider: driver[0], Driver: driver[1], Name: ep.TunnelName, SavePassword: true,
		Description: "Written by berth. To remove it: " + removal,
		Configuration: dbeaverConfig{
			Host: ep.Host, Port: strconv.Itoa(ep.Port), Database: ep.DBName, User: ep.DBUser, URL: url, How: "URL",
			Type: "dev", Auth: "native",
		},
	}
	id := dbeaverPrefix + ep.TunnelName
	render := func(indent string) string { return quoted(id) + d.render(conn, indent) }
	var after []byte
	switch i := indexOf(list, id); {
	case i >= 0:
		after = d.replace(itemsOf(list)[i], render)
	case list != nil:
		after = d.insert(list, render)
	default:
		after = d.insert(&d.root, func(indent string) string {
			return quoted("connections") + "{" + d.newline + indent + d.unit + render(indent+d.unit) + d.newline + indent + "}"
		})
	}
	return d.bytes(after), sameBut(d, after, true, stripMember("connections", id))
}

func (f dbeaver) remove(data []byte, tunnel string) ([]byte, error) {
	d, list, err := f.parse(data)
	if err != nil {
		return nil, err
	}
	id := dbeaverPrefix + tunnel
	i := indexOf(list, id)
	if i < 0 {
		return nil, ErrNone
	}
	after := d.cut(list, i)
	return d.bytes(after), sameBut(d, after, true, stripMember("connections", id))
}

func indexOf(list *hujson.Value, name string) int {
	if list == nil {
		return -1
	}
	for i, it := range itemsOf(list) {
		if it.name == name {
			return i
		}
	}
	return -1
}

// stripMember removes a member of an object within the document, and the object
// if it is empty then.
func stripMember(object, name string) func(map[string]any) {
	return func(v map[string]any) {
		if m, ok := v[object].(map[string]any); ok {
			if delete(m, name); len(m) == 0 {
				delete(v, object)
			}
		}
	}
}
