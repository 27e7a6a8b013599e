package certwatch

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"time"
)

// Identity is a Teleport certificate's description of its holder. Teleport
// writes it into the X.509 Subject: the standard attributes, and its own under
// the arc 1.3.9999.
//
// ParseIdentity and Subject are each other's inverse, but for the order of
// Roles, Usage and Logins: those are ASN.1 sets, which DER sorts.
type Identity struct {
	User            string              // CN
	Roles           []string            // O, assumed roles included
	Usage           []string            // OU: "usage:db", "usage:kube", "usage:apps"; nil means unrestricted
	Logins          []string            // L: OS logins, "-teleport-internal-join" among them
	RouteToCluster  string              // street: the cluster the holder is routed to
	Traits          map[string][]string // postalCode, as JSON
	TeleportCluster string              // the root cluster, which issued the cert

	KubeUsers   []string
	KubeGroups  []string
	KubeCluster string

	DBService  string // the database a usage:db cert is for
	DBProtocol string
	DBUser     string
	DBName     string
	DBNames    []string // databases the roles allow, may be "*"
	DBUsers    []string // database users the roles allow, may be "*"
	DBRoles    []string // database roles asked for with automatic user provisioning

	ActiveRequests          []string // ids of the assumed access requests
	AllowedResourceIDs      string   // what resource requests restrict the cert to, as Teleport encodes it
	Impersonator            string
	DisallowReissue         bool
	PrivateKeyPolicy        string    // "none", "hardware_key", "hardware_key_touch", …
	MFADeviceID             string    // the device a per-session MFA cert was verified with
	PreviousIdentityExpires time.Time // on MFA certs: the end of the session behind it; else zero
	LoginIP                 string
	PinnedIP                string
	DeviceID                string // a trusted device's id
	BotName                 string
}

var (
	oidCommonName         = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidLocality           = asn1.ObjectIdentifier{2, 5, 4, 7}
	oidStreet             = asn1.ObjectIdentifier{2, 5, 4, 9}
	oidOrganization       = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidOrganizationalUnit = asn1.ObjectIdentifier{2, 5, 4, 11}
	oidPostalCode         = asn1.ObjectIdentifier{2, 5, 4, 17}
)

// teleportOID returns an OID of Teleport's own arc.
func teleportOID(family, attribute int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 9999, family, attribute}
}

// An attribute is one of Teleport's private Subject attributes and the field
// of id that it fills: one of the pointers is set.
type attribute struct {
	oid  asn1.ObjectIdentifier
	one  *string
	many *[]string
	flag *bool
	when *time.Time
}

// attributes lists Teleport's private attributes, bound to the fields of id.
func (id *Identity) attributes() []attribute {
	return []attribute{
		{oid: teleportOID(1, 1), many: &id.KubeUsers},
		{oid: teleportOID(1, 2), many: &id.KubeGroups},
		{oid: teleportOID(1, 3), one: &id.KubeCluster},
		{oid: teleportOID(1, 7), one: &id.TeleportCluster},
		{oid: teleportOID(1, 8), one: &id.MFADeviceID},
		{oid: teleportOID(1, 9), one: &id.LoginIP},
		{oid: teleportOID(1, 15), one: &id.PrivateKeyPolicy},
		{oid: teleportOID(2, 1), one: &id.DBService},
		{oid: teleportOID(2, 2), one: &id.DBProtocol},
		{oid: teleportOID(2, 3), one: &id.DBUser},
		{oid: teleportOID(2, 4), one: &id.DBName},
		{oid: teleportOID(2, 5), many: &id.DBNames},
		{oid: teleportOID(2, 6), many: &id.DBUsers},
		{oid: teleportOID(2, 7), one: &id.Impersonator},
		{oid: teleportOID(2, 8), many: &id.ActiveRequests},
		{oid: teleportOID(2, 9), flag: &id.DisallowReissue},
		{oid: teleportOID(2, 10), one: &id.AllowedResourceIDs},
		{oid: teleportOID(2, 12), when: &id.PreviousIdentityExpires},
		{oid: teleportOID(2, 15), one: &id.PinnedIP},
		{oid: teleportOID(2, 18), one: &id.BotName},
		{oid: teleportOID(2, 19), many: &id.DBRoles},
		{oid: teleportOID(3, 1), one: &id.DeviceID},
	}
}

// ParseIdentity reads the identity from a certificate's Subject. What it does
// not know, or cannot parse, it leaves out: newer clusters add attributes.
func ParseIdentity(name pkix.Name) Identity {
	var id Identity
	private := id.attributes()
	for _, a := range allAttributes(name) {
		value, ok := a.Value.(string)
		if !ok || value == "" {
			continue
		}
		if id.setStandard(a.Type, value) {
			continue
		}
		for _, p := range private {
			if p.oid.Equal(a.Type) {
				p.set(value)
			}
		}
	}
	return id
}

// allAttributes returns every attribute of name, whether it was parsed from a
// certificate (Names) or is about to go into one (the fields and ExtraNames).
func allAttributes(name pkix.Name) []pkix.AttributeTypeAndValue {
	if len(name.Names) > 0 {
		return name.Names
	}
	var all []pkix.AttributeTypeAndValue
	for _, set := range name.ToRDNSequence() {
		all = append(all, set...)
	}
	return all
}

// setStandard stores a standard attribute and reports whether oid is one.
func (id *Identity) setStandard(oid asn1.ObjectIdentifier, value string) bool {
	switch {
	case oid.Equal(oidCommonName):
		id.User = value
	case oid.Equal(oidOrganization):
		id.Roles = append(id.Roles, value)
	case oid.Equal(oidOrganizationalUnit):
		id.Usage = append(id.Usage, value)
	case oid.Equal(oidLocality):
		id.Logins = append(id.Logins, value)
	case oid.Equal(oidStreet):
		id.RouteToCluster = value
	case oid.Equal(oidPostalCode):
		var traits map[string][]string
		if json.Unmarshal([]byte(value), &traits) == nil && len(traits) > 0 {
			id.Traits = traits
		}
	default:
		return false
	}
	return true
}

// set stores value in the field that a is bound to.
func (a attribute) set(value string) {
	switch {
	case a.one != nil:
		*a.one = value
	case a.many != nil:
		*a.many = append(*a.many, value)
	case a.flag != nil:
		*a.flag = value == "true" || value == "yes"
	case a.when != nil:
		if t, err := time.Parse(time.RFC3339, value); err == nil {
			*a.when = t.UTC()
		}
	}
}

// Subject returns the Subject of a certificate for id, as Teleport's auth
// service writes it.
func (id Identity) Subject() pkix.Name {
	name := pkix.Name{
		CommonName:         id.User,
		Organization:       id.Roles,
		OrganizationalUnit: id.Usage,
		Locality:           id.Logins,
	}
	if id.RouteToCluster != "" {
		name.StreetAddress = []string{id.RouteToCluster}
	}
	if len(id.Traits) > 0 {
		if traits, err := json.Marshal(id.Traits); err == nil { // a map of strings always marshals
			name.PostalCode = []string{string(traits)}
		}
	}
	for _, a := range id.attributes() {
		for _, value := range a.values() {
			name.ExtraNames = append(name.ExtraNames, pkix.AttributeTypeAndValue{Type: a.oid, Value: value})
		}
	}
	return name
}

// values returns the values to write for the field that a is bound to.
func (a attribute) values() []string {
	switch {
	case a.one != nil && *a.one != "":
		return []string{*a.one}
	case a.many != nil:
		return *a.many
	case a.flag != nil && *a.flag:
		return []string{"true"}
	case a.when != nil && !a.when.IsZero():
		return []string{a.when.UTC().Format(time.RFC3339)}
	default:
		return nil
	}
}
