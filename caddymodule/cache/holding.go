package cache

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// holding gives the metrics of what is stored, as they are when they are read. They
// outlive a configuration as the store does: each one's registry gets a reader of the
// same numbers, and only one, however many caches it has.
type holding struct{ s *shared }

var (
	storedBytes = prometheus.NewDesc(handoff.MetricCacheStored,
		"Bytes of memory that stored answers take.", nil, nil)
	reservedBytes = prometheus.NewDesc(handoff.MetricCacheReserved,
		"Bytes of memory that answers take that are on their way.", nil, nil)
	limitBytes = prometheus.NewDesc(handoff.MetricCacheLimit,
		"Bytes that both may take together.", nil, nil)
	diskBytes = prometheus.NewDesc(handoff.MetricCacheDisk,
		"Bytes that the bodies of large answers take on the disk.", nil, nil)
	diskLimit = prometheus.NewDesc(handoff.MetricCacheDiskLimit,
		"Bytes that they may take there. 0: there is no disk.", nil, nil)
	diskFailures = prometheus.NewDesc(handoff.MetricCacheDiskFailures,
		"Bodies that could not be written to the disk, read from it as they were written, or removed.", nil, nil)
	storedObjects = prometheus.NewDesc(handoff.MetricCacheObjects,
		"Answers that are stored, each variant and each part for itself.", nil, nil)
	evictions = prometheus.NewDesc(handoff.MetricCacheEvictions,
		"Answers that were taken out: for want of room, by a purge, or for a newer one.", []string{"reason"}, nil)
	purges = prometheus.NewDesc(handoff.MetricCachePurges,
		"Purges: of the feed, of an operator, and by requests that change something.", nil, nil)
)

// Describe names the metrics.
func (holding) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{storedBytes, reservedBytes, limitBytes, diskBytes, diskLimit, diskFailures, storedObjects, evictions, purges} {
		ch <- d
	}
}

// Collect reads them.
func (h holding) Collect(ch chan<- prometheus.Metric) {
	s := h.s.store.Stats()
	gauge := func(d *prometheus.Desc, value int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value))
	}
	gauge(storedBytes, s.Stored)
	gauge(reservedBytes, s.Reserved)
	gauge(limitBytes, s.Limit)
	var onDisk, disk, failed int64
	if d := h.s.disk.Load(); d != nil {
		onDisk, disk, _, failed = d.Usage()
	}
	gauge(diskBytes, onDisk)
	gauge(diskLimit, disk)
	ch <- prometheus.MustNewConstMetric(diskFailures, prometheus.CounterValue, float64(failed))
	gauge(storedObjects, int64(s.Objects))
	for _, row := range []struct {
		reason string
		count  int64
	}{{"room", s.Evicted}, {"purged", s.Purged}, {"replaced", s.Renewed}} {
		ch <- prometheus.MustNewConstMetric(evictions, prometheus.CounterValue, float64(row.count), row.reason)
	}
	ch <- prometheus.MustNewConstMetric(purges, prometheus.CounterValue, float64(s.Purges))
}
