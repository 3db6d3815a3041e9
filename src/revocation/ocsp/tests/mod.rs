mod asking;
mod judging;
mod kit;
mod openssl;
