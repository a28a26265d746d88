package handoff

// Names of log fields. Both sides write the same ones, so that one search finds
// a request on both. Type them nowhere else.
const (
	FieldRequestID     = "request_id"
	FieldTraceID       = "trace_id"
	FieldTenant        = "tenant"
	FieldUser          = "user"
	FieldIssuer        = "issuer" // who vouches for the user: a user is both
	FieldSource        = "source"
	FieldRegion        = "region"
	FieldRegionReason  = "region_reason"
	FieldServedBy      = "served_by"    // the region that answered in place of the home region
	FieldRecentWrite   = "recent_write" // the client wrote a moment ago
	FieldPOP           = "pop"
	FieldAuth          = "auth"
	FieldRewrite       = "rewrite"
	FieldShortCircuit  = "short_circuit"
	FieldOutcome       = "outcome"
	FieldReplayed      = "replayed"
	FieldReason        = "reason"
	FieldError         = "error"
	FieldProblem       = "problem"
	FieldRoute         = "route"
	FieldStatus        = "status"
	FieldDuration      = "duration"
	FieldMethod        = "method"
	FieldPath          = "path"
	FieldBytes         = "bytes"
	FieldPoolWait      = "db_pool_wait"
	FieldDBTime        = "db_time"
	FieldDBQueries     = "db_queries"
	FieldDBRoundTrips  = "db_round_trips"
	FieldIdempotency   = "idempotency"
	FieldJob           = "job"
	FieldClientTraceID = "client_trace_id"
	FieldVariants      = "variants"
	FieldExposures     = "exposures"
	FieldAnonymousID   = "anonymous_id"
	FieldDefinition    = "definition"
	FieldSequence      = "sequence"
	FieldFile          = "file"
	FieldPurge         = "purge" // what was purged
	FieldLink          = "signed_link"
	FieldLinkKey       = "signed_link_key"
	FieldCountry       = "country"
	FieldBotClass      = "bot_class"
	FieldBotName       = "bot_name"
	FieldBotScore      = "bot_score"
	FieldBotReason     = "bot_reason"
	FieldBotVerified   = "bot_verified" // the agent that the client was proven to be
	FieldBotAction     = "bot_action"
	FieldCache         = "cache" // what edge_cache did
	FieldCachePolicy   = "cache_policy"
	FieldCacheWhy      = "cache_why" // why nothing was stored, or looked up
	FieldUpstream      = "upstream"
	FieldState         = "state"
	FieldStateBefore   = "state_before"
)

// Names of the rate limits' log fields: the limit that refused, and those that
// would have, were they not in dry_run.
const (
	FieldRateLimit       = "rate_limit"
	FieldRateLimitDryRun = "rate_limit_dry_run"
)

// Names of spans: boring, stable, dotted.
const (
	SpanGuard        = "middleware.guard"
	SpanAuth         = "middleware.auth"
	SpanSigned       = "middleware.signed_link"
	SpanBot          = "middleware.bot"
	SpanGeo          = "middleware.geo"
	SpanRegionSelect = "middleware.region_select"
	SpanExperiment   = "middleware.experiment"
	SpanFlags        = "middleware.flags"
	SpanCache        = "middleware.cache"
	SpanToRegion     = "edge.to_region"
	SpanParseOrder   = "api.orders.parse_json"
	SpanPoolWait     = "db.pool.wait"
	SpanInsertOrder  = "db.insert_order"
	SpanEnqueue      = "queue.enqueue_invoice_job"
)

// Names of span attributes that no semantic convention has.
const (
	AttrStatusCode   = "gatehouse.status_code"
	AttrRequestID    = "gatehouse.request_id"
	AttrTenant       = "gatehouse.tenant"
	AttrRegion       = "gatehouse.region"
	AttrRegionReason = "gatehouse.region_reason"
	AttrServedBy     = "gatehouse.served_by"
	AttrPOP          = "gatehouse.pop"
	AttrAuth         = "gatehouse.auth"
	AttrLink         = "gatehouse.signed_link"
	AttrCountry      = "gatehouse.country"
	AttrBotClass     = "gatehouse.bot_class"
	AttrBotScore     = "gatehouse.bot_score"
	AttrBotReason    = "gatehouse.bot_reason"
	AttrBotVerified  = "gatehouse.bot_verified"
	AttrBotAction    = "gatehouse.bot_action"
	AttrRateLimit    = "gatehouse.rate_limit"
	AttrRewrite      = "gatehouse.rewrite"
	AttrShortCircuit = "gatehouse.short_circuit"
	AttrOutcome      = "gatehouse.outcome"
	AttrCache        = "gatehouse.cache"
	AttrCachePolicy  = "gatehouse.cache_policy"
	AttrCacheWhy     = "gatehouse.cache_why"
	AttrVariants     = "gatehouse.variants"
	AttrExposures    = "gatehouse.exposures"
)

// Prefixes of metric names.
const (
	MetricsEdge   = "gatehouse_edge_"
	MetricsRegion = "gatehouse_region_"
)

// Names of the metrics of an issuer's key set.
const (
	MetricJWKSLoads   = MetricsEdge + "jwks_loads_total"
	MetricJWKSKeys    = MetricsEdge + "jwks_keys"
	MetricJWKSFetched = MetricsEdge + "jwks_fetched_timestamp_seconds"
	MetricJWKSStale   = MetricsEdge + "jwks_stale"
)

// Names of the rate limits' metrics.
const (
	MetricRateLimited = MetricsEdge + "rate_limited_total"
	MetricRateShared  = MetricsEdge + "rate_limit_shared_total"
)

// Names of the feed's metrics.
const (
	MetricFeedPublished = MetricsRegion + "feed_published_total"
	MetricFeedFailures  = MetricsRegion + "feed_failures_total"
	MetricFeedHeartbeat = MetricsRegion + "feed_heartbeat_timestamp_seconds"
	MetricFeedHeard     = MetricsEdge + "feed_heartbeat_timestamp_seconds"
	MetricFeedConnected = MetricsEdge + "feed_connected"
	MetricFeedRevoked   = MetricsEdge + "feed_revocations"
	MetricFeedEntries   = MetricsEdge + "feed_entries"
	MetricFeedBytes     = MetricsEdge + "feed_bytes"
	MetricFeedFull      = MetricsEdge + "feed_full"
	MetricFeedTaken     = MetricsEdge + "definitions_timestamp_seconds"
	MetricFeedRefused   = MetricsEdge + "definitions_refused_total"
	MetricFeedIgnored   = MetricsEdge + "feed_ignored_total"
	MetricFeedResyncs   = MetricsEdge + "feed_resyncs_total"
)

// Names of the metrics of the regions' upstreams.
const (
	MetricRegionAvailable  = MetricsEdge + "region_available"
	MetricUpstreamState    = MetricsEdge + "upstream_state"
	MetricUpstreamChecks   = MetricsEdge + "upstream_checks_total"
	MetricUpstreamFailures = MetricsEdge + "upstream_failures_total"
	MetricUpstreamChanges  = MetricsEdge + "upstream_changes_total"
)

// MetricBots counts what clients are taken for.
const MetricBots = MetricsEdge + "bots_total"

// MetricFileStale is 1 while a file that is followed cannot be used, and the last
// good one answers.
const MetricFileStale = MetricsEdge + "file_stale"

// Metrics of the cache.
const (
	MetricCacheRequests = MetricsEdge + "cache_requests_total"
	MetricCacheBytes    = MetricsEdge + "cache_bytes_total"
	MetricCacheAge      = MetricsEdge + "cache_age_seconds"
)

// Metrics of what the cache has stored.
const (
	MetricCacheStored   = MetricsEdge + "cache_stored_bytes"
	MetricCacheReserved = MetricsEdge + "cache_reserved_bytes"
	MetricCacheLimit    = MetricsEdge + "cache_limit_bytes"

	MetricCacheDisk         = MetricsEdge + "cache_disk_bytes"
	MetricCacheDiskLimit    = MetricsEdge + "cache_disk_limit_bytes"
	MetricCacheDiskFailures = MetricsEdge + "cache_disk_failures_total"

	MetricCacheObjects   = MetricsEdge + "cache_objects"
	MetricCacheEvictions = MetricsEdge + "cache_evictions_total"
	MetricCachePurges    = MetricsEdge + "cache_purges_total"
)
