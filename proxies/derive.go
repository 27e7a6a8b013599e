package proxies

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
)

// The range of derived ports. It lies below every desktop OS's range of
// ephemeral ports (Linux from 32768, macOS and Windows from 49152), which the
// OS hands out to any program, and above the crowded ports below 15000.
const (
	// FirstDerivedPort is the lowest port that DerivePort returns.
	FirstDerivedPort = 15000
	lastDerivedPort  = 29999
)

// wellKnown are ports within the range that other software listens on by
// default: development servers, databases, games that people run at home.
var wellKnown = map[int]string{
	15000: "Istio Envoy admin",
	15001: "Istio Envoy outbound",
	15006: "Istio Envoy inbound",
	15010: "Istio control plane, plaintext",
	15012: "Istio control plane",
	15014: "Istio control plane monitoring",
	15017: "Istio webhook",
	15020: "Istio telemetry",
	15021: "Istio health",
	15090: "Istio Envoy telemetry",
	15671: "RabbitMQ management, TLS",
	15672: "RabbitMQ management",
	15674: "RabbitMQ web STOMP",
	15675: "RabbitMQ web MQTT",
	15692: "RabbitMQ Prometheus",
	16010: "HBase master UI",
	16020: "HBase region server",
	16030: "HBase region server UI",
	16379: "Redis cluster bus of 6379",
	16443: "MicroK8s API server",
	16686: "Jaeger UI",
	16992: "Intel AMT",
	16993: "Intel AMT, TLS",
	17500: "Dropbox LAN sync",
	18080: "Apache Spark history server; HTTP alternative",
	18081: "HTTP alternative",
	18083: "EMQX dashboard; VirtualBox web service",
	18084: "EMQX dashboard, TLS",
	18088: "Hadoop/Spark history server",
	18888: ".NET Aspire dashboard",
	18889: ".NET Aspire OTLP",
	19000: "Expo, MinIO samples, Hadoop",
	19001: "Expo developer tools",
	19002: "Expo developer tools",
	19006: "Expo web",
	19071: "Vespa config server",
	19092: "Kafka, external listener of samples; Redpanda",
	19093: "Kafka samples",
	19100: "Vespa",
	19120: "Project Nessie",
	19132: "Minecraft Bedrock",
	19133: "Minecraft Bedrock, IPv6",
	19200: "Elasticsearch of samples",
	19530: "Milvus",
	19888: "Hadoop job history",
	19999: "Netdata",
	20000: "Usermin, DNP3",
	21000: "Apache Impala, Atlas",
	21050: "Apache Impala",
	22000: "Syncthing",
	22222: "SSH alternative",
	23000: "Apache Impala",
	23306: "MySQL of samples",
	24007: "GlusterFS",
	24224: "Fluentd",
	24800: "Synergy, Barrier, Input Leap",
	25000: "Apache Impala UI",
	25010: "Apache Impala",
	25020: "Apache Impala",
	25565: "Minecraft",
	25575: "Minecraft remote console",
	25672: "RabbitMQ clustering",
	26257: "CockroachDB",
	26379: "Redis Sentinel",
	26656: "CometBFT P2P",
	26657: "CometBFT RPC",
	27015: "Source engine games, Steam",
	27017: "MongoDB",
	27018: "MongoDB shard",
	27019: "MongoDB config server",
	27020: "MongoDB crypt; Steam",
	27036: "Steam remote play",
	27037: "Steam remote play",
	28015: "RethinkDB",
	28017: "MongoDB web status",
	29015: "RethinkDB cluster",
	29092: "Kafka, external listener of samples",
	29093: "Kafka samples",
	29418: "Gerrit SSH",
}

// DerivePort returns the local port of a resource: the same for the same
// cluster, kind and resource, as long as taken reports the same. A port that
// is well known for something else, or that taken reports, is skipped for the
// next one up. taken may be nil. The result is 0 only if every port in the
// range is taken.
func DerivePort(cluster, kind, resource string, taken func(port int) bool) int {
	const size = lastDerivedPort - FirstDerivedPort + 1
	// NUL keeps apart ("a", "bc") and ("ab", "c").
	sum := sha256.Sum256([]byte(strings.Join([]string{cluster, kind, resource}, "\x00")))
	start := int(binary.BigEndian.Uint64(sum[:]) % size)
	for i := range size {
		port := FirstDerivedPort + (start+i)%size
		if _, known := wellKnown[port]; known || taken != nil && taken(port) {
			continue
		}
		return port
	}
	return 0
}
