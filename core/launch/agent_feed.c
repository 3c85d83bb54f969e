/* A feed (sys/proc.h) in the agent's loop. */
#include "launch/agent_parts.h"

void pio_agent_feed_start(pio_agent_feed *feed, pio_agent *agent, uv_poll_cb readable)
{
	feed->is_open = uv_poll_init(&agent->loop, &feed->poll, feed->feed.fd) == 0;
	feed->poll.data = agent;
	if (feed->is_open)
		(void)uv_poll_start(&feed->poll, UV_READABLE, readable);
	else
		pio_proc_feed_close(&feed->feed);
}

void pio_agent_feed_reaped(pio_agent_feed *feed, pid_t pid)
{
	if (feed->is_open && feed->feed.pid == pid)
		feed->feed.pid = 0;
}

void pio_agent_feed_end(pio_agent_feed *feed)
{
	if (!feed->is_open)
		return;
	feed->is_open = false;
	uv_close((uv_handle_t *)&feed->poll, NULL);
	pio_proc_feed_close(&feed->feed);
}
